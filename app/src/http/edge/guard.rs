//! Who asks: settled before anything else of a request is looked at.
//!
//! A guard is the first argument of an operation, so that 401, 404 and 403 come before any complaint about the path, the parameters or the body:
//! arguments are read in their order. It is also the only way to the one who asks, so that it can't be forgotten.

use std::ops::Deref;
use std::sync::Arc;

use poem::http::header::{self, HeaderMap};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchemaRef, MetaSecurityScheme, Registry};
use poem_openapi::types::{ParseFromParameter, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use private_chat_core::error::{Error, Kind, Violation};
use private_chat_core::id::{ChatId, InvitationId, MessageId, SessionId, UserId};
use uuid::Uuid;

use super::client::Client;
use super::fault::{Fault, codes, reason};
use super::schema::Schema;

/// The name of the security scheme in the document.
const SCHEME: &str = "bearer";

/// Decides who is let in, and knows them afterwards.
pub trait Guard: Sized + Send {
    /// What it decides with: the state that the application was built with.
    type State: Send + Sync + 'static;

    /// Lets the caller in, or says why not.
    ///
    /// # Errors
    /// 401, 404 or 403, in this order.
    fn admit(state: &Arc<Self::State>, asked: Asked<'_>) -> impl Future<Output = Result<Self, Fault>> + Send;
}

/// What a guard may look at.
#[derive(Clone, Copy)]
pub struct Asked<'a>(&'a Request);

impl<'a> Asked<'a> {
    /// The access token.
    ///
    /// # Errors
    /// `unauthenticated`, unless there is exactly one `Authorization` header and it is of the scheme `Bearer` (RFC 6750, section 2.1).
    pub fn bearer(self) -> Result<&'a str, Fault> {
        bearer(self.0.headers()).ok_or_else(|| Fault::new(&codes::UNAUTHENTICATED))
    }

    /// The id in the path's variable of this name; where that is no UUID, the one of zeros, which nothing has (RFC 9562, section 5.9).
    pub fn id<T: From<Uuid>>(self, variable: &str) -> T {
        self.0.raw_path_param(variable).and_then(uuid).unwrap_or_default().into()
    }

    /// The other end.
    ///
    /// # Errors
    /// A fault of ours: everything passes the edge.
    pub fn client(self) -> Result<&'a Client, Fault> {
        Client::of(self.0)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (sent.next()?, sent.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    // The characters of a token68 (RFC 9110, section 11.2); what they mean is the verifier's business.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    let well_formed = !token.is_empty() && token.len() <= 8 << 10 && token.bytes().all(plain);
    (scheme.eq_ignore_ascii_case("bearer") && well_formed).then_some(token)
}

/// The usual form alone, so that a thing has one path.
fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// An operation's first argument: the one who asks, let in by a guard.
#[derive(Clone, Debug)]
pub struct By<G>(pub G);

impl<G> Deref for By<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.0
    }
}

impl<'a, G: Guard> ApiExtractor<'a> for By<G> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some("An access token, as `Authorization: Bearer <token>`."),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        let state = request
            .data::<Arc<G::State>>()
            .ok_or_else(|| Fault::internal("a guard's state is not the application's"))?;
        let who = G::admit(state, Asked(request)).await?;
        Client::of(request)?.admit();
        Ok(Self(who))
    }
}

/// An id that an operation reads from its path, and of what kind the thing is that it looks for there.
pub trait Identifies: From<Uuid> + Send {
    /// The kind.
    const KIND: Kind;
}

impl Identifies for ChatId {
    const KIND: Kind = Kind::Chat;
}

impl Identifies for MessageId {
    const KIND: Kind = Kind::Message;
}

impl Identifies for SessionId {
    const KIND: Kind = Kind::Session;
}

impl Identifies for InvitationId {
    const KIND: Kind = Kind::Invitation;
}

/// Accounts are found by guards; operations look for members.
impl Identifies for UserId {
    const KIND: Kind = Kind::Member;
}

/// The id in the path's variable that is called like the argument: `chat_id: Id<ChatId>` reads `:chat_id`. What is no UUID is not found, as an
/// unknown id is.
///
/// An id that the guard has read need not be an argument: the document lists every variable of a path by itself.
#[derive(Clone, Copy, Debug)]
pub struct Id<T>(pub T);

impl<'a, T: Identifies> ApiExtractor<'a> for Id<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;

    type ParamType = Uuid;
    type ParamRawType = Uuid;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Path)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(Uuid::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<Uuid>,
    ) -> poem::Result<Self> {
        let Some(text) = request.raw_path_param(options.name) else {
            return Err(Fault::internal(format!("the path has no variable `{}`", options.name)).into());
        };
        let id = uuid(text).ok_or_else(|| Fault::from(Error::NotFound(T::KIND)))?;
        Ok(Self(T::from(id)))
    }
}

/// A parameter of the query that is called like the argument. Parameters that an operation does not know are ignored; one that it knows may
/// come once.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<'a, T: ParseFromParameter + 'static> ApiExtractor<'a> for Query<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = T::IS_REQUIRED;

    type ParamType = T;
    type ParamRawType = T::RawValueType;

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Query)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(T::schema_ref())
    }

    fn param_raw_type(&self) -> Option<&T::RawValueType> {
        self.0.as_raw_value()
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<T>,
    ) -> poem::Result<Self> {
        let wrong = |message: String| Fault::invalid(vec![Violation::new(options.name, message)]);
        let mut sent = match request.uri().query() {
            None | Some("") => Vec::new(),
            Some(_) => request.params::<Vec<(String, String)>>().map_err(|_| wrong("can't be read".into()))?,
        };
        sent.retain(|(name, _)| name == options.name);
        if sent.len() > 1 {
            return Err(wrong("must come once".into()).into());
        }
        if sent.is_empty()
            && let Some(default) = options.default_value
        {
            return Ok(Self(default()));
        }
        if let Some((_, value)) = sent.first()
            && let Some(fault) = Schema::of::<T>().check_text(value).pop()
        {
            return Err(wrong(fault.message).into());
        }
        T::parse_from_parameters(sent.into_iter().map(|(_, value)| value))
            .map(Self)
            .map_err(|error| wrong(reason(error.message())).into())
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    // R97
    #[test]
    fn a_token_comes_in_one_way_only() {
        let sent = |values: &[&'static str]| {
            let headers: HeaderMap =
                values.iter().map(|v| (header::AUTHORIZATION, HeaderValue::from_static(v))).collect();
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(sent(&["Bearer a.b-c_d"]).as_deref(), Some("a.b-c_d"));
        assert_eq!(sent(&["bearer  abc "]).as_deref(), Some("abc"));
        for none in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Basic YTpi"],
            &["Bearer a b"],
            &["Bearer a", "Bearer a"],
            &["Basic YTpi", "Bearer a"],
            &["Bearer a,b"],
            &["Token a"],
        ] {
            assert_eq!(sent(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_id_has_one_form() {
        let usual = "0190d5a0-7b7c-7000-8000-000000000001";
        assert!(uuid(usual).is_some());
        let simple = usual.replace('-', "");
        for odd in ["", "me", &simple, &format!("{{{usual}}}"), &format!("urn:uuid:{usual}"), &format!("{usual}0")] {
            assert!(uuid(odd).is_none(), "{odd}");
        }
    }
}
