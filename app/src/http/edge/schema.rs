//! Holds a JSON value against the schema that the document shows, and names every fault.

use std::any::TypeId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, PoisonError, RwLock};

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use private_chat_core::error::Violation;
use serde_json::{Map, Value};

/// A longer list helps nobody, and would be as large as what was sent.
const MOST_FAULTS: usize = 32;

/// A type's schema with all that it refers to.
pub(super) struct Schema {
    root: MetaSchemaRef,
    named: BTreeMap<String, MetaSchema>,
}

impl Schema {
    /// The schema of a type, made once.
    pub(super) fn of<T: Type + 'static>() -> &'static Self {
        static KNOWN: LazyLock<RwLock<HashMap<TypeId, &'static Schema>>> = LazyLock::new(RwLock::default);
        let id = TypeId::of::<T>();
        if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return known;
        }
        let mut registry = Registry::new();
        T::register(&mut registry);
        // There are as many as types, and they are needed as long as the program runs.
        let made = Box::leak(Box::new(Self { root: T::schema_ref(), named: registry.schemas }));
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(made)
    }

    #[cfg(test)]
    pub(super) const fn root(&self) -> &MetaSchemaRef {
        &self.root
    }

    /// Everything that is wrong with a value that was sent.
    pub(super) fn check(&self, value: &Value) -> Vec<Violation> {
        let mut faults = Faults(Vec::new());
        self.value(&self.root, value, &Place::Root, &mut faults);
        faults.0
    }

    /// Everything that is wrong with a parameter, whose text stands for a value of this schema.
    pub(super) fn check_text(&self, text: &str) -> Vec<Violation> {
        let plain = matches!(self.resolve(&self.root).map(|schema| schema.ty), Some("boolean" | "integer" | "number"));
        let value = if plain { serde_json::from_str(text).ok() } else { None };
        let value = value.filter(|value: &Value| value.is_boolean() || value.is_number());
        self.check(&value.unwrap_or_else(|| Value::String(text.to_owned())))
    }

    fn value(&self, schema: &MetaSchemaRef, value: &Value, at: &Place<'_>, faults: &mut Faults) {
        if let Some(schema) = self.resolve(schema) {
            self.inline(schema, value, at, faults);
        }
    }

    pub(super) fn resolve<'a>(&'a self, schema: &'a MetaSchemaRef) -> Option<&'a MetaSchema> {
        match schema {
            MetaSchemaRef::Inline(schema) => Some(schema),
            MetaSchemaRef::Reference(name) => self.named.get(name),
        }
    }

    fn inline(&self, schema: &MetaSchema, value: &Value, at: &Place<'_>, faults: &mut Faults) {
        if value.is_null() && (!schema.ty.is_empty() || !schema.all_of.is_empty()) {
            if !schema.nullable {
                faults.add(at, "must not be null");
            }
            return;
        }
        for part in &schema.all_of {
            self.value(part, value, at, faults);
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let known: Vec<_> = schema.enum_items.iter().map(|item| item.as_str().unwrap_or_default()).collect();
            return faults.add(at, &format!("must be one of: {}", known.join(", ")));
        }
        match (schema.ty, value) {
            ("", _) | ("boolean", Value::Bool(_)) => {}
            ("string", Value::String(text)) => string(schema, text, at, faults),
            ("integer" | "number", Value::Number(number)) => numeric(schema, number, at, faults),
            ("array", Value::Array(items)) => self.array(schema, items, at, faults),
            ("object", Value::Object(fields)) => self.object(schema, fields, at, faults),
            ("string", _) => faults.add(at, "must be a string"),
            ("boolean", _) => faults.add(at, "must be true or false"),
            ("integer", _) => faults.add(at, "must be an integer"),
            ("number", _) => faults.add(at, "must be a number"),
            ("array", _) => faults.add(at, "must be an array"),
            (_, _) => faults.add(at, "must be an object"),
        }
    }

    fn array(&self, schema: &MetaSchema, items: &[Value], at: &Place<'_>, faults: &mut Faults) {
        if let Some(most) = schema.max_items.filter(|most| items.len() > *most) {
            return faults.add(at, &format!("must have at most {most} items"));
        }
        if let Some(least) = schema.min_items.filter(|least| items.len() < *least) {
            faults.add(at, &format!("must have at least {least} items"));
        }
        if let Some(each) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.value(each, item, &Place::Item(at, index), faults);
            }
        }
    }

    fn object(&self, schema: &MetaSchema, fields: &Map<String, Value>, at: &Place<'_>, faults: &mut Faults) {
        for (name, field) in &schema.properties {
            if let Some(value) = fields.get(*name) {
                self.value(field, value, &Place::Field(at, name), faults);
            } else if schema.required.contains(name) {
                faults.add(&Place::Field(at, name), "is required");
            }
        }
        for (name, value) in fields {
            if schema.properties.iter().any(|(known, _)| known == name) {
                continue;
            }
            match &schema.additional_properties {
                Some(other) => self.value(other, value, &Place::Field(at, name), faults),
                None => faults.add(&Place::Field(at, name), "is not known here"),
            }
        }
    }
}

fn string(schema: &MetaSchema, text: &str, at: &Place<'_>, faults: &mut Faults) {
    if text.contains('\0') {
        return faults.add(at, "must be Unicode text without the character NUL and without lone surrogates");
    }
    if schema.format == Some("uuid") && (text.len() != 36 || uuid::Uuid::try_parse(text).is_err()) {
        return faults.add(at, "must be a UUID");
    }
    if schema.max_length.is_none() && schema.min_length.is_none() {
        return;
    }
    let length = text.chars().count();
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        faults.add(at, &format!("must have at most {most} characters"));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        faults.add(at, &format!("must have at least {least} characters"));
    }
}

fn numeric(schema: &MetaSchema, number: &serde_json::Number, at: &Place<'_>, faults: &mut Faults) {
    if schema.ty == "integer" && number.is_f64() {
        return faults.add(at, "must be an integer");
    }
    let Some(value) = number.as_f64() else { return };
    let (least, most) = range(schema);
    if let Some(least) = least
        && (value < least || (value == least && schema.exclusive_minimum == Some(true)))
    {
        faults.add(at, &format!("must be at least {least}"));
    }
    if let Some(most) = most
        && (value > most || (value == most && schema.exclusive_maximum == Some(true)))
    {
        faults.add(at, &format!("must be at most {most}"));
    }
}

/// The bounds that a format has by itself; poem-openapi states none.
pub(super) fn format_range(format: &str) -> (Option<f64>, Option<f64>) {
    match format {
        "uint8" => (Some(0.0), Some(f64::from(u8::MAX))),
        "uint16" => (Some(0.0), Some(f64::from(u16::MAX))),
        "uint32" => (Some(0.0), Some(f64::from(u32::MAX))),
        "uint64" => (Some(0.0), None),
        "int8" => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        "int16" => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        "int32" => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    }
}

fn range(schema: &MetaSchema) -> (Option<f64>, Option<f64>) {
    let (least, most) = schema.format.map_or((None, None), format_range);
    (schema.minimum.or(least), schema.maximum.or(most))
}

/// Where in a value something is, kept on the stack until somebody needs its name.
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn write(&self, path: &mut String) {
        match self {
            Self::Root => {}
            Self::Field(parent, name) => {
                parent.write(path);
                if !path.is_empty() {
                    path.push('.');
                }
                path.extend(name.chars().take(100));
            }
            Self::Item(parent, index) => {
                parent.write(path);
                path.push_str(&format!("[{index}]"));
            }
        }
    }
}

struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, at: &Place<'_>, message: &str) {
        if self.0.len() < MOST_FAULTS {
            let mut path = String::new();
            at.write(&mut path);
            self.0.push(Violation::new(path, message));
        }
    }
}
