//! From the features of an encoder and the clauses LAYERS to an architecture.
//!
//! ```text
//! numbers ─────────────────────┐
//! categories ─► embedding ─────┴─► layers of the branch ─┐
//! photo ─► layers FOR photo ─────────────────────────────┴─► layers of the trunk ─► output
//! ```
//! Columns without a branch are a branch without layers. Categories get vectors of their own
//! ([`embedding`](super::DEFINITIONS)), whose widths an `embedding` at the beginning of the branch
//! may set; `one_hot` there replaces them.

use std::collections::HashSet;

use datafusion_common::{Result, plan_err};

use super::architecture::{Architecture, Input, InputKind, Origin};
use super::build::Builder;
use super::call::LayerSpec;
use super::clause::{Branch, LayersClause};
use super::defaults;
use super::layer::CategoryColumn;
use crate::encoder::{Encoder, FeatureKind};
use crate::names::Names;

/// The output layer.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Raw outputs.
    pub outputs: usize,
    /// Whether they have a bias.
    pub intercept: bool,
}

/// The architecture of these clauses over the features of an encoder; without clauses, one that
/// follows from the features.
///
/// # Errors
/// When a clause names a column that is no feature, or a layer does not fit what it reads.
pub fn assemble(
    encoder: &Encoder,
    clauses: &[LayersClause],
    output: Output,
) -> Result<Architecture> {
    let chosen;
    let clauses = match clauses {
        [] => {
            chosen = defaults::clauses(encoder);
            &chosen
        }
        given => given,
    };
    let parts = branches(encoder, clauses)?;
    let mut inputs = vec![];
    let mut read = vec![];
    for (features, _) in &parts {
        let own = inputs_of(encoder, features);
        read.push(inputs.len()..inputs.len() + own.len());
        inputs.extend(own);
    }
    let mut builder = Builder::new(Architecture::new(inputs))?;
    let mut ends = vec![];
    for ((_, layers), range) in parts.iter().zip(read) {
        ends.extend(branch(&mut builder, layers, range.map(Origin::Input).collect())?);
    }
    let trunk = clauses.iter().find(|clause| clause.branch == Branch::Trunk);
    if let Some(trunk) = trunk
        && clauses.len() > 1
    {
        ends = vec![builder.chain(&trunk.layers, &ends)?];
    }
    builder.output(output.outputs, output.intercept, &ends)?;
    Ok(builder.finish())
}

/// The features of each branch with its layers, in the order of the clauses; features that no
/// clause names come last.
fn branches(
    encoder: &Encoder,
    clauses: &[LayersClause],
) -> Result<Vec<(Vec<usize>, Vec<LayerSpec>)>> {
    let features = encoder.features();
    let mut taken: HashSet<usize> = HashSet::new();
    let (mut trunks, mut others) = (0, 0);
    for clause in clauses {
        match &clause.branch {
            Branch::Trunk => trunks += 1,
            Branch::Others => others += 1,
            Branch::Columns(_) => {}
        }
    }
    if trunks > 1 {
        return plan_err!("LAYERS without FOR is given twice; the trunk has one list of layers");
    }
    if others > 1 {
        return plan_err!("LAYERS FOR * is given twice");
    }
    let mut parts = vec![];
    for clause in clauses {
        let Branch::Columns(columns) = &clause.branch else { continue };
        let mut own = vec![];
        for column in columns {
            let found = features_of(encoder, column)?;
            if found.is_empty() {
                let names: Vec<&str> = features.iter().map(|own| own.name.as_str()).collect();
                return plan_err!(
                    "LAYERS FOR names column {column}, which is no feature; there are {}",
                    names.join(", ")
                );
            }
            if found.iter().any(|feature| !taken.insert(*feature)) {
                return plan_err!("two LAYERS name column {column}; it can belong to one branch");
            }
            own.extend(found);
        }
        own.sort_unstable();
        parts.push((own, clause.layers.clone()));
    }
    let rest: Vec<usize> = (0..features.len()).filter(|own| !taken.contains(own)).collect();
    let of_others = clauses.iter().find(|clause| clause.branch == Branch::Others);
    let only_trunk = clauses.iter().find(|own| own.branch == Branch::Trunk && clauses.len() == 1);
    match (of_others.or(only_trunk), rest.is_empty()) {
        (Some(clause), true) if clause.branch == Branch::Others => {
            return plan_err!(
                "LAYERS FOR * has no columns left, since other branches name them all"
            );
        }
        (Some(clause), _) => parts.push((rest, clause.layers.clone())),
        (None, false) => parts.push((rest, vec![])),
        (None, true) => {}
    }
    Ok(parts)
}

/// The features of a column: itself, or the fields of a struct.
fn features_of(encoder: &Encoder, column: &str) -> Result<Vec<usize>> {
    let features = encoder.features();
    let columns: Vec<&str> = features
        .iter()
        .map(|own| match own.name.split_once('.') {
            Some((head, _)) if head.eq_ignore_ascii_case(column) => head,
            _ => own.name.as_str(),
        })
        .collect();
    let mut distinct = columns.clone();
    distinct.dedup();
    let names = Names::new(distinct.iter().copied());
    let Some(place) = names.find(column)? else { return Ok(vec![]) };
    Ok((0..columns.len()).filter(|own| columns[*own] == distinct[place]).collect())
}

/// The inputs of some features: adjacent numbers together, a vector alone where it is the only
/// feature, then all categories.
fn inputs_of(encoder: &Encoder, features: &[usize]) -> Vec<Input> {
    let all = encoder.features();
    let (mut inputs, mut categories): (Vec<Input>, Vec<CategoryColumn>) = (vec![], vec![]);
    let firsts = encoder.first_categories();
    for feature in features {
        let (own, place) = (&all[*feature], encoder.place(*feature));
        if let FeatureKind::Category(values) = &own.kind {
            let first = firsts.get(place).copied().unwrap_or(0) as usize;
            categories.push(CategoryColumn { offset: place, first, size: values.len() });
            continue;
        }
        let shape = own.shape();
        let last = inputs.last_mut().map(|input| &mut input.kind);
        if let Some(InputKind::Numbers { offset, shape: before, .. }) = last
            && before.len() == 1
            && shape.len() == 1
            && *offset + before[0] == place
        {
            before[0] += shape[0];
            continue;
        }
        let kind = InputKind::Numbers { offset: place, shape, length: None };
        inputs.push(Input { name: own.name.clone(), kind });
    }
    let name_numbers = inputs.len() == 1 && features.len() > 1;
    if let (true, [only]) = (name_numbers, inputs.as_mut_slice()) {
        only.name = "numbers".to_owned();
    }
    if !categories.is_empty() {
        let kind = InputKind::Categories { columns: categories };
        inputs.push(Input { name: "categories".to_owned(), kind });
    }
    inputs
}

/// Adds the layers of a branch, and returns where it ends.
fn branch(
    builder: &mut Builder,
    layers: &[LayerSpec],
    mut inputs: Vec<Origin>,
) -> Result<Vec<Origin>> {
    let mut layers = layers;
    let categories = inputs.iter().position(|input| builder.are_categories(*input));
    if let Some(place) = categories {
        let embedding = LayerSpec::new("embedding");
        let own = match layers.first() {
            Some(first) if ["embedding", "one_hot"].contains(&first.name.as_str()) => {
                layers = &layers[1..];
                first
            }
            _ => &embedding,
        };
        inputs[place] = builder.chain(std::slice::from_ref(own), &[inputs[place]])?;
    }
    if layers.is_empty() {
        return Ok(inputs);
    }
    Ok(vec![builder.chain(layers, &inputs)?])
}
