//! The table of keys as a JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, Preset, ROOT, Section};
use super::units::{DURATION_PATTERN, SIZE_PATTERN};

/// The JSON Schema of the file.
pub fn schema() -> Value {
    let mut schema = section(&ROOT);
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".to_owned(), json!("ringlane"));
    Value::Object(schema)
}

fn section(section: &Section) -> Map<String, Value> {
    let properties: Map<_, _> = section
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<_> = section
        .keys
        .iter()
        .filter(|key| matches!(key.preset, Preset::Required))
        .map(|key| key.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(section.doc));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if !section.one_of.is_empty() {
        let each: Vec<_> = section
            .one_of
            .iter()
            .map(|key| json!({ "required": [key] }))
            .collect();
        schema.insert("oneOf".to_owned(), json!(each));
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    schema.insert("description".to_owned(), json!(key.doc));
    let default = match (&key.preset, &key.kind) {
        (Preset::Flag(flag), _) => Some(json!(flag)),
        (Preset::Number(number), _) => Some(json!(number)),
        (Preset::Text(text), _) => Some(json!(text)),
        (Preset::Empty, Kind::List(_)) => Some(json!([])),
        _ => None,
    };
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    if matches!(key.preset, Preset::Unset) && schema.get("type") == Some(&json!("array")) {
        schema.insert("minItems".to_owned(), json!(1));
    }
    Value::Object(schema)
}

fn kind(of: &Kind) -> Map<String, Value> {
    let schema = match of {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Size(..) => json!({ "type": "string", "pattern": SIZE_PATTERN }),
        Kind::Time(_) => json!({ "type": "string", "pattern": DURATION_PATTERN }),
        Kind::Choice(words, _) => json!({ "type": "string", "enum": words }),
        Kind::Text(text) => json!({ "type": "string", "pattern": text.pattern }),
        Kind::List(of) => json!({ "type": "array", "items": kind(of) }),
        Kind::OneOrList(of) => {
            json!({ "anyOf": [kind(of), { "type": "array", "items": kind(of), "minItems": 1 }] })
        }
        Kind::Table(of) => Value::Object(section(of)),
        Kind::TableOrOff(of) => json!({ "anyOf": [{ "const": "off" }, section(of)] }),
        Kind::Tables(of) | Kind::Entries(of) => json!({ "type": "array", "items": section(of) }),
        Kind::Named(of) => json!({ "type": "object", "additionalProperties": section(of) }),
    };
    match schema {
        Value::Object(schema) => schema,
        other => unreachable!("a schema is an object: {other}"),
    }
}
