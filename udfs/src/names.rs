//! Look-up of columns by name, and the errors for names that do not exist.
//!
//! A name means the column of exactly that name. If there is none, it means the only column whose
//! name differs just in case. All look-ups use [`Names`], which hashes the names once: a table may
//! have many thousand columns.

use std::cell::OnceCell;
use std::collections::HashMap;

use arrow::datatypes::Fields;
use datafusion_common::{Result, plan_err};

/// The first two positions of a name.
#[derive(Clone, Copy, Debug)]
struct Places {
    first: usize,
    second: Option<usize>,
}

/// Names of columns, for look-up.
#[derive(Debug)]
pub struct Names<'a> {
    all: Vec<&'a str>,
    exact: HashMap<&'a str, Places>,
    /// By the name in lower case; made when the exact name is not found.
    folded: OnceCell<HashMap<String, Places>>,
}

impl<'a> Names<'a> {
    /// The names of columns in their order.
    pub fn new(names: impl IntoIterator<Item = &'a str>) -> Self {
        let all: Vec<&str> = names.into_iter().collect();
        let exact = places(all.iter().copied());
        Self { all, exact, folded: OnceCell::new() }
    }

    /// The names of the fields of a schema or a struct.
    pub fn of(fields: &'a Fields) -> Self {
        Self::new(fields.iter().map(|field| field.name().as_str()))
    }

    /// All names.
    pub fn all(&self) -> &[&'a str] {
        &self.all
    }

    /// Whether two columns have exactly that name.
    pub fn is_twice(&self, name: &str) -> bool {
        self.exact.get(name).is_some_and(|places| places.second.is_some())
    }

    /// The index of the column that `name` means, if there is one.
    ///
    /// # Errors
    /// When several columns match: two of exactly that name, or two that differ from it in case.
    pub fn find(&self, name: &str) -> Result<Option<usize>> {
        match self.find_exact(name)? {
            Some(place) => Ok(Some(place)),
            None => self.find_folded(name),
        }
    }

    /// The indices of the columns for several names. A column that one name matches exactly, or
    /// that was already found for a name, does not also match another name that differs in case.
    ///
    /// # Errors
    /// See [`Names::find`].
    pub fn find_all<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<Option<usize>>> {
        let names: Vec<&str> = names.into_iter().collect();
        let mut found = vec![];
        let mut is_taken = vec![false; self.all.len()];
        for name in &names {
            let place = self.find_exact(name)?;
            if let Some(place) = place {
                is_taken[place] = true;
            }
            found.push(place);
        }
        for (name, found) in names.iter().zip(&mut found) {
            if found.is_none()
                && let Some(place) = self.find_folded(name)?
                && !std::mem::replace(&mut is_taken[place], true)
            {
                *found = Some(place);
            }
        }
        Ok(found)
    }

    /// The index of the column of exactly that name.
    ///
    /// # Errors
    /// When there are two.
    pub fn find_exact(&self, name: &str) -> Result<Option<usize>> {
        match self.exact.get(name) {
            Some(Places { second: Some(_), .. }) => twice(name),
            found => Ok(found.map(|places| places.first)),
        }
    }

    fn find_folded(&self, name: &str) -> Result<Option<usize>> {
        let folded =
            self.folded.get_or_init(|| places(self.all.iter().map(|name| name.to_lowercase())));
        let Some(&Places { first, second }) = folded.get(&name.to_lowercase()) else {
            return Ok(None);
        };
        let Some(second) = second else { return Ok(Some(first)) };
        let (first, second) = (self.all[first], self.all[second]);
        if first == second {
            return twice(first);
        }
        plan_err!(
            "column {name} is ambiguous: the query has {first} and {second}; write the one that is \
             meant in double quotes"
        )
    }
}

fn places<K: std::hash::Hash + Eq>(names: impl Iterator<Item = K>) -> HashMap<K, Places> {
    let mut places = HashMap::with_capacity(names.size_hint().0);
    for (place, name) in names.enumerate() {
        places
            .entry(name)
            .and_modify(|own: &mut Places| {
                own.second.get_or_insert(place);
            })
            .or_insert(Places { first: place, second: None });
    }
    places
}

fn twice<T>(name: &str) -> Result<T> {
    plan_err!("column {name} is ambiguous: the query has it more than once; give one an alias")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(found: Result<Option<usize>>) -> String {
        found.unwrap_err().strip_backtrace()
    }

    #[test]
    fn a_name_is_found_as_it_is_written_and_else_in_the_only_other_case() {
        let names = Names::new(["PE", "pe", "Élan", "x.y", "", "CamelCase"]);
        for (name, place) in [
            ("PE", Some(0)),
            ("pe", Some(1)),
            ("élan", Some(2)),
            ("X.Y", Some(3)),
            ("", Some(4)),
            ("camelcase", Some(5)),
            ("camel_case", None),
        ] {
            assert_eq!(names.find(name).unwrap(), place, "{name}");
        }
        assert_eq!(
            message(names.find("Pe")),
            "Error during planning: column Pe is ambiguous: the query has PE and pe; write the one \
             that is meant in double quotes"
        );
    }

    #[test]
    fn a_name_that_two_columns_have_is_refused() {
        let names = Names::new(["x", "A", "x", "A"]);
        for (name, said) in [("x", "x"), ("X", "x"), ("a", "A")] {
            assert_eq!(
                message(names.find(name)),
                format!(
                    "Error during planning: column {said} is ambiguous: the query has it more than \
                     once; give one an alias"
                )
            );
        }
    }

    #[test]
    fn one_column_is_not_found_for_two_names() {
        let names = Names::new(["PE", "b"]);
        assert_eq!(names.find_all(["pe", "B"]).unwrap(), [Some(0), Some(1)]);
        assert_eq!(names.find_all(["pe", "PE"]).unwrap(), [None, Some(0)]);
        assert_eq!(names.find_all(["pe", "Pe"]).unwrap(), [Some(0), None]);
    }
}
