//! Infers the types of keys from the values that were seen.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What the values of a key are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Seen {
    #[default]
    Null,
    Boolean,
    Whole,
    /// A whole number beyond 63 bits.
    Large,
    Fraction,
    Text,
    List(Box<Self>),
    Object(Keys),
}

/// The keys of objects, in the order in which they are first seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys {
    names: Vec<(String, Seen)>,
    places: HashMap<String, usize>,
}

/// Two kinds of values of one key that no column holds.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) key: String,
    pub(super) kinds: [&'static str; 2],
}

impl Keys {
    /// Adds the values of an object.
    pub(super) fn add(&mut self, other: Self) -> Result<(), Conflict> {
        for (name, seen) in other.names {
            match self.places.get(&name) {
                Some(place) => {
                    let own = &mut self.names[*place].1;
                    let merged = std::mem::take(own).and(seen);
                    *own = merged.map_err(|mut conflict| {
                        conflict.key = match conflict.key.as_str() {
                            "" => name.clone(),
                            inner => format!("{name}.{inner}"),
                        };
                        conflict
                    })?;
                }
                None => {
                    self.places.insert(name.clone(), self.names.len());
                    self.names.push((name, seen));
                }
            }
        }
        Ok(())
    }

    /// The keys as columns.
    pub(super) fn schema(&self) -> Schema {
        Schema::new(self.fields())
    }

    fn fields(&self) -> Vec<Field> {
        self.names.iter().map(|(name, seen)| Field::new(name, seen.data_type(), true)).collect()
    }
}

impl Seen {
    /// The kind that holds both.
    fn and(self, other: Self) -> Result<Self, Conflict> {
        use Seen::*;
        Ok(match (self, other) {
            (Null, seen) | (seen, Null) => seen,
            (a, b) if a == b => a,
            (Whole, Large) | (Large, Whole) => Large,
            (Whole | Large | Fraction, Whole | Large | Fraction) => Fraction,
            (List(a), List(b)) => List(Box::new(a.and(*b)?)),
            (Object(mut a), Object(b)) => {
                a.add(b)?;
                Object(a)
            }
            (a, b) if a.is_scalar() && b.is_scalar() => Text,
            (a, b) => return Err(Conflict { key: String::new(), kinds: [a.kind(), b.kind()] }),
        })
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Object(_))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "true or false",
            Self::Whole | Self::Large | Self::Fraction => "a number",
            Self::Text => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Large => DataType::Decimal128(20, 0),
            Self::Fraction => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::List(item) => {
                let item = match item.data_type() {
                    DataType::Null => DataType::Utf8,
                    other => other,
                };
                DataType::List(Arc::new(Field::new_list_field(item, true)))
            }
            Self::Object(keys) => DataType::Struct(keys.fields().into()),
        }
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeenVisitor)
    }
}

struct SeenVisitor;

impl<'de> Visitor<'de> for SeenVisitor {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Whole)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        Ok(if i64::try_from(value).is_ok() { Seen::Whole } else { Seen::Large })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Fraction)
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Text)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seen, A::Error> {
        let mut all = Seen::Null;
        while let Some(item) = items.next_element::<Seen>()? {
            all = all.and(item).map_err(|conflict| {
                A::Error::custom(format_args!(
                    "a list holds {} and {}",
                    conflict.kinds[0], conflict.kinds[1]
                ))
            })?;
        }
        Ok(Seen::List(Box::new(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut keys = Keys::default();
        while let Some((name, seen)) = map.next_entry::<String, Seen>()? {
            if keys.places.contains_key(&name) {
                return Err(A::Error::custom(format_args!("an object has the key {name} twice")));
            }
            keys.places.insert(name.clone(), keys.names.len());
            keys.names.push((name, seen));
        }
        Ok(Seen::Object(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(lines: &[&str]) -> Result<String, Conflict> {
        let mut keys = Keys::default();
        for line in lines {
            let Seen::Object(own) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
            keys.add(own)?;
        }
        let schema = keys.schema();
        let of = |f: &Arc<Field>| format!("{} {}", f.name(), f.data_type());
        Ok(schema.fields().iter().map(of).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn keys_have_the_type_of_all_their_values() {
        let of = |lines: &[&str]| columns(lines).unwrap();
        assert_eq!(of(&["{\"z\": 1, \"a\": true}", "{\"z\": 1.5}"]), "z Float64, a Boolean");
        assert_eq!(of(&["{\"a\": 1}", "{\"a\": \"x\"}", "{\"a\": null}"]), "a Utf8");
        assert_eq!(of(&["{\"a\": 18446744073709551615}"]), "a Decimal128(20, 0)");
        assert_eq!(of(&["{\"a\": null}"]), "a Null");
        assert_eq!(of(&["{\"a\": [1, null]}", "{\"a\": [0.5]}"]), "a List(Float64)");
    }

    #[test]
    fn what_no_column_holds_is_told_by_its_key() {
        let lines = ["{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": [1]}}"];
        let conflict = columns(&lines).unwrap_err();
        assert_eq!((conflict.key.as_str(), conflict.kinds), ("a.b", ["a number", "a list"]));
        let twice = serde_json::from_str::<Seen>("{\"a\": 1, \"a\": 2}").unwrap_err();
        assert!(twice.to_string().contains("has the key a twice"));
    }
}
