//! Holds what serde reads and writes against what the document shows, for tests: each name is written twice, once for either.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::Type;
use serde::de::value::Error as ReadError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::Value;

use super::schema::Schema;

/// Panics unless serde reads the very fields of `T` that the document shows.
///
/// # Panics
/// With both lists of fields.
pub(crate) fn reads_as_documented<T: DeserializeOwned + Type + 'static>() {
    let mut read = Fields(&[]);
    let _ = T::deserialize(&mut read);
    let mut read = read.0.to_vec();
    let schema = Schema::of::<T>();
    let mut shown: Vec<_> = schema
        .resolve(schema.root())
        .map(|schema| schema.properties.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    read.sort_unstable();
    shown.sort_unstable();
    assert!(!shown.is_empty() && read == shown, "{}: serde reads {read:?}, the document shows {shown:?}", T::name());
}

/// Panics unless serde writes this value as the document shows its type: the same fields at each depth, and known names in enumerations.
///
/// # Panics
/// With the place and what is wrong there.
pub(crate) fn writes_as_documented<T: Serialize + Type + 'static>(example: &T) {
    let written = serde_json::to_value(example).unwrap_or_default();
    let schema = Schema::of::<T>();
    let mut wrong = Vec::new();
    compare(schema, schema.root(), &written, T::name().as_ref(), &mut wrong);
    assert!(wrong.is_empty(), "{}: {written}", wrong.join("; "));
}

fn compare(schema: &Schema, shown: &MetaSchemaRef, written: &Value, at: &str, wrong: &mut Vec<String>) {
    let Some(shown) = schema.resolve(shown) else { return wrong.push(format!("{at} is not in the document")) };
    if let Some(discriminator) = &shown.discriminator {
        let kind = written[discriminator.property_name].as_str().unwrap_or_default();
        let variant = discriminator.mapping.iter().find(|(name, _)| name == kind);
        return match variant {
            Some((_, target)) => {
                let name = target.rsplit('/').next().unwrap_or_default();
                compare(schema, &MetaSchemaRef::Reference(name.to_owned()), written, &format!("{at}<{kind}>"), wrong);
            }
            None => wrong.push(format!("{at} has no variant `{kind}`")),
        };
    }
    if !shown.enum_items.is_empty() && !shown.enum_items.contains(written) {
        return wrong.push(format!("{at} has no value {written}"));
    }
    match written {
        Value::Object(fields) => {
            let mut properties = Vec::new();
            gather(schema, shown, &mut properties);
            for (name, property) in &properties {
                let optional = schema.resolve(property).is_some_and(|property| property.read_only);
                match fields.get(*name) {
                    Some(Value::Null) => {}
                    Some(value) => compare(schema, property, value, &format!("{at}.{name}"), wrong),
                    None if optional => {}
                    None => wrong.push(format!("{at}.{name} is not written")),
                }
            }
            let stray = fields.keys().filter(|key| properties.iter().all(|(name, _)| name != key));
            wrong.extend(stray.map(|key| format!("{at}.{key} is not shown")));
        }
        Value::Array(items) => {
            for item in items {
                if let Some(each) = &shown.items {
                    compare(schema, each, item, &format!("{at}[]"), wrong);
                }
            }
        }
        _ if matches!(shown.ty, "object" | "array") => wrong.push(format!("{at} is no {}", shown.ty)),
        _ => {}
    }
}

/// The properties of an object and of all that it is made of.
fn gather<'a>(schema: &'a Schema, shown: &'a MetaSchema, properties: &mut Vec<(&'static str, &'a MetaSchemaRef)>) {
    properties.extend(shown.properties.iter().map(|(name, property)| (*name, property)));
    for part in shown.all_of.iter().filter_map(|part| schema.resolve(part)) {
        gather(schema, part, properties);
    }
}

/// Reads nothing, and remembers which fields were asked for.
struct Fields(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Fields {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ReadError> {
        Err(ReadError::custom("nothing to read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, ReadError> {
        self.0 = fields;
        Err(ReadError::custom("the fields are known"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Enum, Object, Union};
    use serde::Deserialize;

    use super::*;

    #[derive(Object, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Misread {
        some_field: String,
    }

    #[derive(Object, Serialize, Deserialize)]
    struct Well {
        some_field: Option<Inner>,
        kinds: Vec<Kind>,
    }

    #[derive(Object, Serialize, Deserialize)]
    struct Inner {
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<String>,
        #[serde(rename = "kinds")]
        kind: Kind,
    }

    #[derive(Enum, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        One,
    }

    #[derive(Union, Serialize)]
    #[oai(one_of = true, discriminator_name = "type")]
    #[serde(tag = "type")]
    enum Event {
        #[oai(mapping = "inner.made")]
        #[serde(rename = "inner.made")]
        Made(Good),
        #[oai(mapping = "inner.gone")]
        #[serde(rename = "inner.lost")]
        Gone(Other),
    }

    #[derive(Object, Serialize)]
    struct Good {
        id: u32,
    }

    #[derive(Object, Serialize)]
    struct Other {
        id: u32,
    }

    #[test]
    fn equal_names_pass() {
        reads_as_documented::<Well>();
        writes_as_documented(&Well { some_field: None, kinds: Vec::new() });
        writes_as_documented(&Event::Made(Good { id: 1 }));
    }

    #[test]
    #[should_panic(expected = "serde reads [\"someField\"]")]
    fn a_field_that_is_read_by_another_name_is_found() {
        reads_as_documented::<Misread>();
    }

    #[test]
    #[should_panic(
        expected = "Well.some_field.left_out is not written; Well.some_field.kind is not written; Well.some_field.kinds is not shown; \
                    Well.kinds[] has no value \"one\""
    )]
    fn a_field_that_is_written_by_another_name_is_found() {
        let inner = Inner { left_out: None, kind: Kind::One };
        writes_as_documented(&Well { some_field: Some(inner), kinds: vec![Kind::One] });
    }

    #[test]
    #[should_panic(expected = "Event has no variant `inner.lost`")]
    fn a_variant_of_another_name_is_found() {
        writes_as_documented(&Event::Gone(Other { id: 1 }));
    }
}
