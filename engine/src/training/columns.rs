//! Which columns of the query are what: features, target, weight, partition, split.

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Column, DFSchema, ExprSchema, Result, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use gradlake_udfs::encoder::flatten_fields;
use gradlake_udfs::model::{Model, NetworkSpec};

use crate::names::{find_column, suggestion};
use crate::options::{Solver, Split, nearest};
use crate::request::TrainRequest;
use crate::table::{Roles, TargetKind};

/// The columns of a training.
#[derive(Debug)]
pub struct TrainingColumns {
    /// The query with TRANSFORM applied, cut down to the columns that are used: inputs, target,
    /// then weight, partition and split columns.
    pub plan: LogicalPlan,
    /// What the columns of the plan are.
    pub roles: Roles,
    /// Features with their types, in order.
    pub inputs: Vec<(String, DataType)>,
    /// Target with its type.
    pub target: (String, DataType),
    /// Partition columns with their types.
    pub partition_by: Vec<(String, DataType)>,
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
        let source = transformed(state, request)?;
        let schema = source.schema();
        let type_of = |name: &str, clause: &str| -> Result<DataType> {
            match find_column(schema, name)? {
                Some(column) => Ok(schema.field_from_column(&column)?.data_type().clone()),
                None => {
                    let names = schema.fields().iter().map(|f| f.name().as_str());
                    plan_err!(
                        "{clause} names column {name}, which the query lacks{}",
                        suggestion(nearest(name, names))
                    )
                }
            }
        };
        let Some(target) = &request.target else {
            return plan_err!(
                "{} needs a target: add TARGET and the name of the column to predict",
                request.algorithm
            );
        };
        let target = (target.clone(), type_of(target, "TARGET")?);
        if let Some(weight) = &request.weight {
            let data_type = type_of(weight, "WEIGHT")?;
            if !data_type.is_numeric() && data_type != DataType::Null {
                return plan_err!("WEIGHT column {weight} must be a number, but is {data_type}");
            }
        }
        let mut partition_by = vec![];
        for name in &request.partition_by {
            partition_by.push((name.clone(), type_of(name, "PARTITION BY")?));
        }
        let split = match (&request.options.split, &request.options.split_column) {
            (Split::Column, Some(name)) => {
                let data_type = type_of(name, "split_column")?;
                if data_type != DataType::Boolean {
                    return plan_err!(
                        "split_column {name} must be a boolean, TRUE for evaluation rows, but is \
                         {data_type}"
                    );
                }
                Some(name.clone())
            }
            _ => None,
        };
        let others: Vec<&String> =
            request.weight.iter().chain(&request.partition_by).chain(&split).collect();
        if others.contains(&&target.0) {
            return plan_err!("the target {} cannot serve another purpose too", target.0);
        }
        let names: Vec<String> = match &request.features {
            Some(features) => {
                for (i, name) in features.iter().enumerate() {
                    if name == &target.0 {
                        return plan_err!("the target {name} cannot be a feature");
                    }
                    if others.contains(&name) {
                        return plan_err!(
                            "column {name} serves as weight, partition or split, so it cannot be \
                             a feature"
                        );
                    }
                    if features[..i].contains(name) {
                        return plan_err!("FEATURES names column {name} twice");
                    }
                }
                features.clone()
            }
            None => schema
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .filter(|name| *name != target.0 && !others.contains(&name))
                .collect(),
        };
        let mut inputs = vec![];
        for name in names {
            let data_type = type_of(&name, "FEATURES")?;
            inputs.push((name, data_type));
        }
        if inputs.is_empty() {
            return plan_err!(
                "no feature is left: the query needs a column beside the target {}",
                target.0
            );
        }
        if let Some(parent) = parent {
            check_parent(parent, request, &inputs)?;
        }
        let kind =
            if request.algorithm.is_classifier() { TargetKind::Class } else { TargetKind::Number };
        let roles = Roles {
            algorithm: request.algorithm,
            inputs: inputs.clone(),
            target: target.0.clone(),
            kind,
            weight: request.weight.clone(),
            partition_by: request.partition_by.clone(),
            split: split.clone(),
        };
        let mut used: Vec<Expr> = vec![];
        let all = inputs.iter().map(|(n, _)| n).chain([&target.0]).chain(others);
        for name in all {
            let column = Expr::Column(Column::from_name(name));
            if !used.contains(&column) {
                used.push(column);
            }
        }
        let plan = LogicalPlanBuilder::from(unqualified(source)?).project(used)?.build()?;
        Ok(Self { plan, roles, inputs, target, partition_by })
    }
}

/// The query, or TRANSFORM's outputs over it (with the columns that other clauses name).
fn transformed(state: &SessionState, request: &TrainRequest) -> Result<LogicalPlan> {
    let query = request.query.clone();
    if request.transform.is_empty() {
        return Ok(query);
    }
    let schema = query.schema();
    let mut outputs = vec![];
    for (name, sql) in &request.transform {
        outputs.push(state.create_logical_expr(sql, schema)?.alias(name));
    }
    let has = |name: &str| request.transform.iter().any(|(output, _)| output == name);
    let elsewhere = request
        .target
        .iter()
        .chain(&request.weight)
        .chain(&request.partition_by)
        .chain(&request.options.split_column);
    for name in elsewhere {
        if let (false, Some(column)) = (has(name), find_column(schema, name)?) {
            let expr = Expr::Column(column).alias(name);
            if !outputs.contains(&expr) {
                outputs.push(expr);
            }
        }
    }
    LogicalPlanBuilder::from(query).project(outputs)?.build()
}

/// The same rows with columns by plain name, so that names are all that matters from here on.
fn unqualified(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema: &DFSchema = plan.schema();
    let columns: Vec<Expr> = schema
        .columns()
        .into_iter()
        .map(|column| {
            let name = column.name.clone();
            Expr::Column(column).alias(name)
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// CONTINUE keeps the old encoder and network, so the new features must be the old ones.
fn check_parent(
    parent: &Model,
    request: &TrainRequest,
    inputs: &[(String, DataType)],
) -> Result<()> {
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
    if partition != request.partition_by.iter().collect::<Vec<_>>() {
        return plan_err!(
            "CONTINUE needs the same PARTITION BY as model {}: {partition:?}, but it is {:?}",
            parent.name,
            request.partition_by
        );
    }
    if request.target.as_ref() != Some(&parent.target.name) {
        return plan_err!(
            "CONTINUE needs the target of model {}, {}",
            parent.name,
            parent.target.name
        );
    }
    let fields: Vec<Field> =
        inputs.iter().map(|(name, t)| Field::new(name, t.clone(), true)).collect();
    let given = flatten_fields(&Fields::from(fields))?;
    let given: Vec<_> = given.iter().map(|i| (i.name.as_str(), &i.data_type)).collect();
    for member in parent.members.iter().filter_map(|m| m.outcome.as_ref().ok()).take(1) {
        member.encoder.check(&given)?;
        check_options(parent, request, &member.network)?;
    }
    Ok(())
}

/// Refuses options that would have to change the network that CONTINUE keeps.
fn check_options(parent: &Model, request: &TrainRequest, network: &NetworkSpec) -> Result<()> {
    let options = &request.options;
    if matches!(options.solver, Solver::Normal | Solver::Newton) {
        return plan_err!(
            "CONTINUE goes on by mini-batches, which an exact solver does not; leave option solver \
             out or set solver = sgd"
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
