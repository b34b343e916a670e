//! What can be said of a network before a row is read: whether its layers fit the types of the
//! inputs.

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use gradlake_udfs::{Encoder, Loss, OptionGroup, Outline, flatten_fields};

use crate::request::TrainRequest;
use crate::table::{Roles, TargetKind};

/// Refuses layers that do not fit the inputs, as far as the types say.
///
/// # Errors
/// When one does not fit; the error names it and both shapes.
pub fn check_architecture(request: &TrainRequest, roles: &Roles) -> Result<()> {
    let algorithm = request.algorithm;
    if !algorithm.takes(OptionGroup::Networks) || request.continue_from.is_some() {
        return Ok(());
    }
    let fields = roles.inputs.iter().map(|(name, t)| Field::new(name, t.clone(), true));
    let inputs = flatten_fields(&Fields::from_iter(fields))?;
    let inputs: Vec<(String, DataType)> =
        inputs.into_iter().map(|input| (input.name, input.data_type)).collect();
    let Some(encoder) = Encoder::of_types(&inputs)? else { return Ok(()) };
    let classes = if request.options.loss == Some(Loss::Logistic) { 2 } else { 3 };
    let outline = Outline {
        options: &request.options,
        target: &roles.targets.join(", "),
        // (Their number is in the rows: one that fits the loss.)
        classes: (roles.kind == TargetKind::Class).then_some(classes),
        targets: roles.targets.len(),
        parent: None,
        layers: &request.layers,
        encoder: Some(&encoder),
    };
    outline.describe()?;
    Ok(())
}
