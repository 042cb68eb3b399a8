//! Pages of lists: `?limit=` and `?cursor=` in, `{items, next_cursor}` out.

use std::borrow::Cow;

use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type};
use private_chat_core::error::Violation;
use private_chat_core::page::{Cursor as Key, Limit as CoreLimit, Page as CorePage, PageRequest};
use serde::Serialize;

use super::edge::guard::Query;

/// `limit: Query<Limit>`: how many items a page may hold, 1 to 100, 50 unless told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit(pub CoreLimit);

impl Type for Limit {
    const IS_REQUIRED: bool = false;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "limit".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(1.0),
            maximum: Some(100.0),
            default: Some(50.into()),
            ..MetaSchema::new("integer")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for Limit {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        // All that is no number of this kind lies out of range, too.
        CoreLimit::new(text.parse().unwrap_or(0)).map(Self).map_err(|wrong| ParseError::custom(wrong.message))
    }

    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(sent: I) -> ParseResult<Self> {
        sent.into_iter().next().map_or_else(|| Ok(Self::default()), |text| Self::parse_from_parameter(text.as_ref()))
    }
}

/// `cursor: Query<Cursor>`: where a page starts, as the page before said; the first page without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub Option<String>);

impl Type for Cursor {
    const IS_REQUIRED: bool = false;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "cursor".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            max_length: Some(64),
            description: Some("The `next_cursor` of the page before."),
            ..MetaSchema::new("string")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for Cursor {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        Ok(Self(Some(text.to_owned())))
    }

    fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(sent: I) -> ParseResult<Self> {
        Ok(Self(sent.into_iter().next().map(|text| text.as_ref().to_owned())))
    }
}

/// The page that the two parameters ask for.
///
/// # Errors
/// A violation of `cursor` where it is none of this list.
pub fn request<K: Key>(limit: &Query<Limit>, cursor: &Query<Cursor>) -> Result<PageRequest<K>, Violation> {
    let after = cursor.0.0.as_deref().map(K::decode).transpose()?;
    Ok(PageRequest { after, limit: limit.0.0 })
}

/// A page of a list.
#[derive(Clone, Debug, Object, Serialize)]
pub struct Page<T: ParseFromJSON + ToJSON> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The `cursor` to ask the next page with; null at the end.
    pub next_cursor: Option<String>,
}

impl<T: ParseFromJSON + ToJSON> Page<T> {
    /// Shows a page of the core's.
    pub fn of<U: Into<T>, K: Key>(page: CorePage<U, K>) -> Self {
        Self { next_cursor: page.next.map(|key| key.encode()), items: page.items.into_iter().map(Into::into).collect() }
    }
}
