//! Which path and method leads where, built from the API's own description.
//!
//! Every path answers with and without a slash at its end, names its variables as the document does, and knows its methods: they are what
//! `Allow` lists.

use std::collections::HashMap;

use poem::endpoint::BoxEndpoint;
use poem::http::header::{self, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::{Endpoint, EndpointExt as _, Request, Response, Route};
use poem_openapi::OpenApi;
use std::sync::Arc;

use super::fault::method_not_allowed;

type Endpoints = HashMap<Method, BoxEndpoint<'static>>;

/// The routes of an API and some pages beside it.
pub(super) fn routes<A: OpenApi>(api: A, pages: Vec<(String, BoxEndpoint<'static>)>) -> Route {
    let mut table: HashMap<String, Endpoints> = HashMap::new();
    api.add_routes(&mut table);
    let mut route = Route::new();
    let mut add = |path: &str, endpoints: Endpoints| {
        let methods = Arc::new(Methods::new(endpoints));
        let bare = path.trim_end_matches('/');
        let taken = std::mem::take(&mut route).at(format!("{bare}/"), methods.clone());
        route = if bare.is_empty() { taken } else { taken.at(bare, methods) };
    };
    for path in A::meta().into_iter().flat_map(|api| api.paths) {
        // A path that two parts of the API share is met twice.
        if let Some(endpoints) = table.remove(&numbered(&path.path)) {
            add(&named(&path.path), endpoints);
        }
    }
    for (path, endpoints) in table {
        add(&path, endpoints);
    }
    for (path, page) in pages {
        add(&path, HashMap::from([(Method::GET, page)]));
    }
    route
}

/// `/chats/{chat_id}` as poem-openapi registers it: `/chats/:param0`.
fn numbered(template: &str) -> String {
    let mut variables = 0;
    segments(template, |_| {
        variables += 1;
        format!(":param{}", variables - 1)
    })
}

/// `/chats/{chat_id}` as guards and [`Id`](super::guard::Id) read it: `/chats/:chat_id`.
fn named(template: &str) -> String {
    segments(template, |name| format!(":{name}"))
}

fn segments(template: &str, mut variable: impl FnMut(&str) -> String) -> String {
    let each = template.split('/').map(|segment| {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        name.map_or_else(|| segment.to_owned(), &mut variable)
    });
    each.collect::<Vec<_>>().join("/")
}

/// The methods of one path.
struct Methods {
    endpoints: Vec<(Method, BoxEndpoint<'static>)>,
    allow: HeaderValue,
}

impl Methods {
    fn new(endpoints: Endpoints) -> Self {
        let mut endpoints: Vec<_> = endpoints.into_iter().collect();
        endpoints.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        let mut names: Vec<_> = endpoints.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.sort_unstable();
        // Names of methods always make a header.
        let allow = HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"));
        Self { endpoints, allow }
    }
}

impl Endpoint for Methods {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        if request.method() == Method::HEAD {
            // hyper sends no body in answer to HEAD, and the length of the one that it is given.
            request.set_method(Method::GET);
        }
        match self.endpoints.iter().find(|(method, _)| method == request.method()) {
            Some((_, endpoint)) => endpoint.call(request).await,
            None if request.method() == Method::OPTIONS => {
                let allow = [(header::ALLOW, self.allow.clone())];
                let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
                response.headers_mut().extend(allow);
                Ok(response)
            }
            None => Err(method_not_allowed(request.method(), &self.allow).into()),
        }
    }
}

/// A file that never changes while the program runs.
#[derive(Clone)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// The content security policy of a page; others need none of their own.
    pub policy: Option<&'static str>,
    /// What it holds.
    pub content: bytes::Bytes,
}

impl Endpoint for Page {
    type Output = Response;

    async fn call(&self, _: Request) -> poem::Result<Response> {
        let mut response = Response::builder().content_type(self.content_type).body(self.content.clone());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(policy) = self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        }
        Ok(response)
    }
}

impl Page {
    pub(super) fn boxed(self) -> BoxEndpoint<'static> {
        self.map_to_response().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_known_by_their_names() {
        let template = "/workspaces/{workspace_id}/chat/{chat_id}";
        assert_eq!(numbered(template), "/workspaces/:param0/chat/:param1");
        assert_eq!(named(template), "/workspaces/:workspace_id/chat/:chat_id");
        assert_eq!(named("/"), "/");
    }
}
