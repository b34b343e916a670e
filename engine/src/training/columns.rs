//! The roles of the columns of a query: features, target, weight, partition, split.

use std::collections::HashSet;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use gradlake_udfs::{Input, Model, Names, TargetRule, flatten_fields};

use super::architecture::check_architecture;
use super::candidates::{Candidate, Candidates};
use super::parent::{Spelling, check_parent};
use crate::names::suggested;
use crate::operators::{SelectColumns, without_idle_projections};
use crate::options::{ClassWeights, Split};
use crate::request::TrainRequest;
use crate::table::{Roles, TargetKind};

/// The columns of a training.
#[derive(Debug)]
pub struct TrainingColumns {
    /// The query with TRANSFORM applied, cut down to the columns that are used: inputs, targets,
    /// then weight, partition and split columns.
    pub plan: LogicalPlan,
    /// The roles of the columns of the plan.
    pub roles: Roles,
    /// Features with their types, in order.
    pub inputs: Vec<(String, DataType)>,
    /// Targets with their types.
    pub targets: Vec<(String, DataType)>,
    /// Partition columns with their types.
    pub partition_by: Vec<(String, DataType)>,
    /// TRANSFORM as (output name, SQL expression), columns written as the query has them.
    pub transform: Vec<(String, String)>,
}

impl TrainingColumns {
    /// Finds the columns that a request names.
    ///
    /// # Errors
    /// When a column is missing, is named for two purposes, or no feature is left.
    pub fn resolve(
        state: &SessionState,
        request: &TrainRequest,
        parent: Option<&Model>,
    ) -> Result<Self> {
        let query = without_idle_projections(request.query.clone());
        let source = Candidates::of(state, request, query.schema())?;
        let names = Names::new(source.columns.iter().map(|column| column.name.as_str()));
        let name_of = |place: usize| source.columns[place].name.as_str();
        let clauses = ClauseColumns::find(request, &source, &names)?;
        let others = clauses.others(&source)?;
        let ClauseColumns { targets, weight, partition_by, split } = clauses;
        let inputs = match &request.features {
            Some(features) => source.named_features(features, &targets, &others)?,
            None => source.other_columns(&names, &targets, &others)?,
        };
        if inputs.is_empty() {
            let targets: Vec<&str> = targets.iter().map(|target| name_of(*target)).collect();
            return match targets.as_slice() {
                [] => plan_err!("no feature is left: the query needs a column to learn from"),
                targets => plan_err!(
                    "no feature is left: the query needs a column beside the target {}",
                    targets.join(", ")
                ),
            };
        }
        let used: Vec<usize> =
            inputs.iter().copied().chain(targets.iter().copied()).chain(others).collect();
        let spelling = Spelling::new(parent, used.iter().map(|place| name_of(*place)));
        let own = |place: usize| spelling.of(name_of(place)).to_owned();
        let typed = |place: usize| (own(place), source.columns[place].field.data_type().clone());
        let kind = match request.algorithm.spec().target {
            TargetRule::None => TargetKind::None,
            // (Several booleans are numbers, 0 or 1.)
            TargetRule::Classes if targets.len() > 1 => TargetKind::Number,
            TargetRule::Class | TargetRule::Classes => TargetKind::Class,
            TargetRule::Number => TargetKind::Number,
        };
        let roles = Roles {
            algorithm: request.algorithm,
            inputs: inputs.iter().copied().map(typed).collect(),
            targets: targets.iter().copied().map(own).collect(),
            kind,
            weight: weight.map(own),
            partition_by: partition_by.iter().copied().map(own).collect(),
            split: split.map(own),
        };
        check_feature_names(&roles.inputs)?;
        if let [_, _, ..] = roles.targets.as_slice()
            && let Some(vector) = targets.iter().find(|own| typed(**own).1.is_nested())
        {
            return plan_err!(
                "the target {} is a vector, which is the only target where there is one; name its \
                 elements in the query, such as {0}[1] AS first",
                name_of(*vector)
            );
        }
        check_booleans(request, &roles, targets.iter().copied().map(typed))?;
        if let Some(parent) = parent {
            check_parent(parent, request, &roles)?;
        }
        check_architecture(request, &roles)?;
        let named: Vec<String> = used.iter().copied().map(own).collect();
        let picks = used.iter().map(|place| source.columns[*place].pick.clone());
        let plan = SelectColumns::plan(query, named.iter().map(String::as_str).zip(picks))?;
        Ok(Self {
            plan,
            inputs: roles.inputs.clone(),
            targets: targets.iter().copied().map(typed).collect(),
            partition_by: partition_by.iter().copied().map(typed).collect(),
            transform: source.transform,
            roles,
        })
    }
}

impl TrainingColumns {
    /// The names of the targets, for messages.
    pub fn target_names(&self) -> String {
        self.roles.targets.join(", ")
    }
}

/// Numbers of the columns that clauses name.
struct ClauseColumns {
    targets: Vec<usize>,
    weight: Option<usize>,
    partition_by: Vec<usize>,
    split: Option<usize>,
}

impl ClauseColumns {
    /// Finds the columns.
    ///
    /// # Errors
    /// When one is missing or has a type that does not fit.
    fn find(request: &TrainRequest, source: &Candidates, names: &Names) -> Result<Self> {
        let find = |name: &String, clause: &str| -> Result<usize> {
            match names.find(name)? {
                Some(place) => Ok(place),
                None => plan_err!(
                    "{clause} names column {name}, which the query lacks{}",
                    suggested(names, name)
                ),
            }
        };
        check_number(request)?;
        let targets = request.targets.iter().map(|name| find(name, "TARGET"));
        let targets = targets.collect::<Result<Vec<_>>>()?;
        for (i, target) in targets.iter().enumerate() {
            if targets[..i].contains(target) {
                return plan_err!("TARGET names column {} twice", source.columns[*target].name);
            }
        }
        let weight = request.weight.iter().map(|name| find(name, "WEIGHT")).next().transpose()?;
        if let Some(Candidate { name, field, .. }) = weight.map(|place| &source.columns[place])
            && !field.data_type().is_numeric()
            && *field.data_type() != DataType::Null
        {
            return plan_err!(
                "WEIGHT column {name} must be a number, but is {}",
                field.data_type()
            );
        }
        let partition_by = request.partition_by.iter();
        let partition_by = partition_by.map(|name| find(name, "PARTITION BY"));
        let partition_by = partition_by.collect::<Result<Vec<_>>>()?;
        let split = match (&request.options.split, &request.options.split_column) {
            (Split::Column, Some(name)) => Some(find(name, "split_column")?),
            _ => None,
        };
        if let Some(Candidate { name, field, .. }) = split.map(|place| &source.columns[place])
            && *field.data_type() != DataType::Boolean
        {
            return plan_err!(
                "split_column {name} must be a boolean, TRUE for evaluation rows, but is {}",
                field.data_type()
            );
        }
        Ok(Self { targets, weight, partition_by, split })
    }

    /// Columns of the weight, of groups and of the split: each once, in this order.
    ///
    /// # Errors
    /// When a column has two roles that exclude each other.
    fn others(&self, source: &Candidates) -> Result<Vec<usize>> {
        let name_of = |place: usize| source.columns[place].name.as_str();
        for (i, place) in self.partition_by.iter().enumerate() {
            if self.partition_by[..i].contains(place) {
                return plan_err!("PARTITION BY names column {} twice", name_of(*place));
            }
            if self.weight == Some(*place) {
                return plan_err!(
                    "column {} stands in WEIGHT and in PARTITION BY; it can have one role",
                    name_of(*place)
                );
            }
        }
        let mut others: Vec<usize> = vec![];
        let all = self.weight.into_iter().chain(self.partition_by.iter().copied());
        for place in all.chain(self.split) {
            if !others.contains(&place) {
                others.push(place);
            }
        }
        if let Some(target) = self.targets.iter().find(|target| others.contains(target)) {
            return plan_err!("the target {} cannot serve another purpose too", name_of(*target));
        }
        Ok(others)
    }
}

/// Refuses a number of targets that the algorithm does not take.
fn check_number(request: &TrainRequest) -> Result<()> {
    let algorithm = request.algorithm;
    match (algorithm.spec().target, request.targets.as_slice()) {
        (TargetRule::None, [target, ..]) => plan_err!(
            "{algorithm} has no target: it learns from the features alone; leave TARGET {target} out"
        ),
        (TargetRule::Class | TargetRule::Classes | TargetRule::Number, []) => plan_err!(
            "{algorithm} needs a target: add TARGET and the name of the column to predict"
        ),
        (TargetRule::Class, [_, _, ..]) => plan_err!(
            "{algorithm} takes one target, but TARGET names {}",
            request.targets.join(", ")
        ),
        _ => Ok(()),
    }
}

/// Refuses several targets of a classifier that are not booleans.
fn check_booleans(
    request: &TrainRequest,
    roles: &Roles,
    targets: impl Iterator<Item = (String, DataType)>,
) -> Result<()> {
    let algorithm = roles.algorithm;
    if !algorithm.is_classifier() || roles.targets.len() < 2 {
        return Ok(());
    }
    if request.options.class_weights != ClassWeights::None {
        return plan_err!(
            "class_weights are of the classes of one target, but TARGET names {}; leave the option \
             out, or use WEIGHT",
            roles.targets.join(", ")
        );
    }
    for (name, data_type) in targets {
        if !matches!(data_type, DataType::Boolean | DataType::Null) {
            return plan_err!(
                "several targets of {algorithm} must be booleans, but {name} is {data_type}; compare \
                 it in the query, such as {name} = 'a' AS is_a, or name it alone"
            );
        }
    }
    Ok(())
}

/// Refuses features that would have one name: a field of a struct is called `struct.field`.
fn check_feature_names(inputs: &[(String, DataType)]) -> Result<()> {
    if !inputs.iter().any(|(_, data_type)| data_type.is_nested()) {
        return Ok(());
    }
    let fields = inputs.iter().map(|(name, t)| Field::new(name, t.clone(), true));
    // (Columns that cannot be features are refused where they are read.)
    let Ok(flat) = flatten_fields(&Fields::from_iter(fields)) else { return Ok(()) };
    let mut taken = HashSet::new();
    match flat.iter().find(|input| !taken.insert(input.name.as_str())) {
        Some(Input { name, .. }) => plan_err!(
            "two features are called {name}, a column and a field of a struct; give the column \
             another name in the query"
        ),
        None => Ok(()),
    }
}
