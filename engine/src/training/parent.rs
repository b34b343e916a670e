//! What CONTINUE requires of a training: the columns and the network of the model to continue.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, plan_err};
use gradlake_udfs::{Model, Names, NetworkSpec, flatten_fields};

use crate::options::{Choice, Solver};
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
        let old: Vec<&str> =
            old.chain([&parent.target.name]).chain(&parent.weight).map(String::as_str).collect();
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
    if roles.target != parent.target.name {
        return plan_err!(
            "CONTINUE needs the target of model {}, {}",
            parent.name,
            parent.target.name
        );
    }
    let fields: Vec<Field> =
        inputs.iter().map(|(name, t)| Field::new(name, t.clone(), true)).collect();
    let given = flatten_fields(&Fields::from(fields))?;
    for member in parent.members.iter().filter_map(|m| m.outcome.as_ref().ok()).take(1) {
        member.encoder.check(given.iter().map(|i| (i.name.as_str(), &i.data_type)))?;
        check_options(parent, request, &member.network)?;
    }
    Ok(())
}

/// Refuses options that would have to change the network that CONTINUE keeps.
fn check_options(parent: &Model, request: &TrainRequest, network: &NetworkSpec) -> Result<()> {
    let options = &request.options;
    if !matches!(options.solver, Solver::Auto | Solver::Sgd) {
        return plan_err!(
            "CONTINUE goes on by mini-batches, which solver = {} does not; leave option solver out \
             or set solver = sgd",
            options.solver.name()
        );
    }
    let changes = [
        ("hidden", options.hidden != network.hidden),
        ("activation", options.activation != network.activation),
        ("loss", options.loss.is_some_and(|loss| loss != network.loss)),
        ("intercept", options.intercept != network.intercept),
    ];
    match changes.iter().find(|(name, changed)| *changed && options.is_given(name)) {
        Some((name, _)) => plan_err!(
            "CONTINUE keeps the network of model {}, which option {name} would change; leave it out",
            parent.name
        ),
        None => Ok(()),
    }
}
