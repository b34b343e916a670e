//! The columns that the clauses of TRAIN may name.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::execution::SessionState;
use gradlake_udfs::Names;

use crate::names::suggested;
use crate::operators::Pick;
use crate::request::TrainRequest;
use crate::transform::expression;

/// The columns that clauses may name.
pub(super) struct Candidates {
    pub columns: Vec<Candidate>,
    /// How many of them may be features: without TRANSFORM all, else its outputs, which come first.
    pub features: usize,
    /// TRANSFORM after its names are resolved.
    pub transform: Vec<(String, String)>,
}

/// A column that clauses may name.
pub(super) struct Candidate {
    pub name: String,
    pub field: FieldRef,
    pub pick: Pick,
}

impl Candidates {
    /// The columns of a query, or TRANSFORM's outputs over it and the columns that have no such
    /// name.
    pub fn of(state: &SessionState, request: &TrainRequest, schema: &DFSchema) -> Result<Self> {
        let names = Names::of(schema.fields());
        let (mut columns, mut transform) = (vec![], vec![]);
        for (name, sql) in &request.transform {
            let (pick, text) = expression(state, sql, schema, &names)?;
            columns.push(Candidate { name: name.clone(), field: pick.field(schema), pick });
            transform.push((name.clone(), text));
        }
        let outputs: HashSet<&str> = request.transform.iter().map(|(n, _)| n.as_str()).collect();
        for (place, field) in schema.fields().iter().enumerate() {
            if !outputs.contains(field.name().as_str()) {
                let (name, field) = (field.name().clone(), Arc::clone(field));
                columns.push(Candidate { name, field, pick: Pick::Column(place) });
            }
        }
        let features = if transform.is_empty() { columns.len() } else { transform.len() };
        Ok(Self { columns, features, transform })
    }

    /// The columns that FEATURES names.
    pub fn named_features(
        &self,
        features: &[String],
        targets: &[usize],
        others: &[usize],
    ) -> Result<Vec<usize>> {
        let own = self.columns.iter().take(self.features);
        let names = Names::new(own.map(|column| column.name.as_str()));
        let lacks =
            if self.transform.is_empty() { "the query lacks" } else { "TRANSFORM does not give" };
        let mut taken = HashSet::new();
        let mut places = vec![];
        for name in features {
            let Some(place) = names.find(name)? else {
                return plan_err!(
                    "FEATURES names column {name}, which {lacks}{}",
                    suggested(&names, name)
                );
            };
            let name = &self.columns[place].name;
            if targets.contains(&place) {
                return plan_err!("the target {name} cannot be a feature");
            }
            if others.contains(&place) {
                return plan_err!(
                    "column {name} serves as weight, partition or split, so it cannot be a feature"
                );
            }
            if !taken.insert(place) {
                return plan_err!("FEATURES names column {name} twice");
            }
            places.push(place);
        }
        Ok(places)
    }

    /// All columns that can be features and serve no other purpose.
    pub fn other_columns(
        &self,
        names: &Names<'_>,
        targets: &[usize],
        others: &[usize],
    ) -> Result<Vec<usize>> {
        let mut places = vec![];
        for place in
            (0..self.features).filter(|place| !targets.contains(place) && !others.contains(place))
        {
            names.find_exact(&self.columns[place].name)?;
            places.push(place);
        }
        Ok(places)
    }
}
