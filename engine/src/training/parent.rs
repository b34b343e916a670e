//! What CONTINUE requires of a training: the columns and the network of the model to continue.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, plan_err};
use gradlake_udfs::{Model, Names, flatten_fields};

use crate::request::TrainRequest;
use crate::table::Roles;

/// How columns are spelled: as the query has them, or as the model to continue, where the two
/// differ in case alone.
pub(super) struct Spelling(HashMap<String, String>);

impl Spelling {
    /// The spelling of columns with these names.
    pub fn new<'a>(parent: Option<&Model>, names: impl Iterator<Item = &'a str>) -> Self {
        let Some(parent) = parent else { return Self(HashMap::new()) };
        let old = parent.inputs.iter().chain(&parent.partition_by).map(|(name, _)| name);
        let targets = parent.targets.iter().map(|target| &target.name);
        let old: Vec<&str> = old.chain(targets).chain(&parent.weight).map(String::as_str).collect();
        let known = Names::new(old.iter().copied());
        let own: Vec<&str> = names.collect();
        let mut spelling = HashMap::new();
        // (Ambiguous names stay as they are, and are refused where other names are.)
        for (name, place) in own.iter().zip(known.find_all(own.iter().copied()).unwrap_or_default())
        {
            if let Some(place) = place
                && old[place] != *name
            {
                spelling.insert((*name).to_owned(), old[place].to_owned());
            }
        }
        Self(spelling)
    }

    /// The spelling of a column.
    pub fn of<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).map_or(name, String::as_str)
    }
}

/// CONTINUE keeps the old encoder and network, so the new features must be the old ones.
pub(super) fn check_parent(parent: &Model, request: &TrainRequest, roles: &Roles) -> Result<()> {
    let inputs = &roles.inputs;
    if parent.algorithm != request.algorithm {
        return plan_err!(
            "CONTINUE needs a model of the same algorithm: {} is a {}, not a {}",
            parent.name,
            parent.algorithm,
            request.algorithm
        );
    }
    let names = |inputs: &[(String, DataType)]| -> Vec<String> {
        inputs.iter().map(|(name, _)| name.clone()).collect()
    };
    let (old, new) = (names(&parent.inputs), names(inputs));
    if old != new {
        return plan_err!(
            "CONTINUE keeps the encoder of model {}, so the features must be {}, but are {}",
            parent.name,
            old.join(", "),
            new.join(", ")
        );
    }
    let partition: Vec<&String> = parent.partition_by.iter().map(|(name, _)| name).collect();
    if partition != roles.partition_by.iter().collect::<Vec<_>>() {
        return plan_err!(
            "CONTINUE needs the same PARTITION BY as model {}: {partition:?}, but it is {:?}",
            parent.name,
            roles.partition_by
        );
    }
    let targets: Vec<&str> = parent.targets.iter().map(|target| target.name.as_str()).collect();
    if roles.targets != targets {
        return plan_err!(
            "CONTINUE needs the target of model {}, {}",
            parent.name,
            targets.join(", ")
        );
    }
    let fields: Vec<Field> =
        inputs.iter().map(|(name, t)| Field::new(name, t.clone(), true)).collect();
    let given = flatten_fields(&Fields::from(fields))?;
    for member in parent.members.iter().filter_map(|m| m.outcome.as_ref().ok()).take(1) {
        member.encoder.check(given.iter().map(|i| (i.name.as_str(), &i.data_type)))?;
        member.description.check_continued(&parent.name, &request.options)?;
    }
    Ok(())
}
