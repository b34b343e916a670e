//! Rows and runs that the tests share.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;

use super::*;
use crate::algorithms::TrainingPlan;
use crate::batch::{MiniBatch, NO_CATEGORY};
use crate::encoder::{Categories, Encoder, Feature, FeatureKind, Scale};
use crate::estimator::{Fitted, Next, Request, RoundRows};
use crate::kernels::rng::{mix, unit};
use crate::model::{Labels, Trained};
use crate::options::OptionValue;
use crate::parallel::Sequential;
use crate::round::Partial;

mod laws;
mod model;
mod online;
mod oracle;
mod refused;

/// Encoded rows without a target.
#[derive(Clone, Debug, Default)]
struct Data {
    width: Width,
    dense: Vec<f32>,
    codes: Vec<u32>,
    weight: Vec<f32>,
}

impl Data {
    fn of(d: usize, dense: Vec<f32>) -> Self {
        let weight = vec![1.0; dense.len() / d];
        let width = Width { dense: d, bytes: 0, columns: 0, categories: 0, targets: 0 };
        Self { width, dense, codes: vec![], weight }
    }

    /// `rows` rows of `rank` directions, whose lengths halve from one to the next, far from 0; with
    /// two columns of 3 categories each.
    fn decaying(rows: usize, d: usize, rank: usize) -> Self {
        let draw = |what: u64, i: usize| f64::from(unit(mix(5, what, i as u64))) - 0.5;
        let mut data = Self {
            width: Width { dense: d, bytes: 0, columns: 2, categories: 6, targets: 0 },
            weight: vec![1.0; rows],
            ..Self::default()
        };
        for row in 0..rows {
            for j in 0..d {
                let terms = (0..rank)
                    .map(|k| draw(1, row * rank + k) * draw(2, k * d + j) * 0.5_f64.powi(k as i32));
                data.dense.push((3.0 + terms.sum::<f64>()) as f32);
            }
            let code = mix(5, 3, row as u64) % 4;
            data.codes.push(if code == 3 { NO_CATEGORY } else { code as u32 });
            data.codes.push(3 + (mix(5, 4, row as u64) % 3) as u32);
        }
        data
    }

    fn rows(&self) -> usize {
        self.weight.len()
    }

    fn batch(&self) -> MiniBatch<'_> {
        MiniBatch {
            rows: self.rows(),
            dense: &self.dense,
            codes: &self.codes,
            weight: &self.weight,
            ..MiniBatch::default()
        }
    }

    /// The rows with these numbers, in this order.
    fn take(&self, rows: &[usize]) -> Self {
        let Width { dense: d, columns: c, .. } = self.width;
        let of = |n: usize, row: &usize| row * n..(row + 1) * n;
        Self {
            width: self.width,
            dense: rows.iter().flat_map(|row| self.dense[of(d, row)].to_vec()).collect(),
            codes: rows.iter().flat_map(|row| self.codes[of(c, row)].to_vec()).collect(),
            weight: rows.iter().map(|row| self.weight[*row]).collect(),
        }
    }

    /// Numbers `x0, x1, ...` as they are; categories `c0, c1, ...` of about equally many.
    fn encoder(&self) -> Encoder {
        let scale = Scale { mean: 0.0, center: 0.0, stddev: 1.0, min: 0.0, max: 1.0 };
        let feature =
            |name: String, data_type, kind| Feature { name, data_type, kind, null_count: 0 };
        let number = |i| feature(format!("x{i}"), DataType::Float32, FeatureKind::Number(scale));
        let (t, c) = (self.width.categories, self.width.columns);
        let category = |i: usize| {
            let texts: Vec<String> =
                (i * t / c..(i + 1) * t / c).map(|k| format!("t{k:03}")).collect();
            let texts = texts.iter().map(String::as_str);
            let kind = FeatureKind::Category(Categories::copied(false, texts).unwrap());
            feature(format!("c{i}"), DataType::Utf8, kind)
        };
        let numbers = (0..self.width.dense).map(number);
        Encoder::new(numbers.chain((0..self.width.columns).map(category)).collect()).unwrap()
    }
}

fn number(text: &str) -> OptionValue {
    OptionValue::Number(text.to_owned())
}

fn word(text: &str) -> OptionValue {
    OptionValue::Word(text.to_owned())
}

fn options(given: &[(&str, OptionValue)]) -> TrainOptions {
    let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
    TrainOptions::check(Algorithm::PCA, &given).unwrap()
}

/// A new estimator for the rows.
fn estimator(
    data: &Data,
    has_evaluation: bool,
    given: &[(&str, OptionValue)],
) -> Result<Box<dyn Estimator>> {
    let options = options(given);
    let outline = Outline {
        options: &options,
        target: "",
        classes: None,
        targets: 0,
        parent: None,
        layers: &[],
        encoder: None,
    };
    let description = outline.describe()?;
    let rows = data.rows() as u64;
    let shape = Shape { width: data.width, classes: None, rows };
    let plan = TrainingPlan::decide(&options, description.as_ref(), &shape, false);
    assert_eq!(plan.shuffle, None);
    let setup = Setup {
        options: &options,
        plan: &plan,
        description: &description,
        encoder: &data.encoder(),
        labels: &Labels::None,
        rows,
        has_evaluation,
        parent: None,
        threads: Arc::new(Sequential),
        interrupt: Arc::default(),
    };
    setup.make()
}

/// Runs a round over the rows, cut into contiguous parts.
fn round(request: &Request, data: &Data, parts: usize) -> Vec<u8> {
    let cut = |i: usize| i * data.rows() / parts;
    let partial = |i: usize| {
        let mut replica = request.round.replica(i as u32).unwrap();
        replica.update(&data.batch().slice(cut(i), cut(i + 1), data.width)).unwrap();
        Partial { replica: i as u32, bytes: replica.finish().unwrap() }
    };
    request.round.merge((0..parts).map(partial).collect()).unwrap()
}

/// Runs an estimator to its end.
fn finish(
    mut estimator: Box<dyn Estimator>,
    data: &Data,
    evaluation: &Data,
    parts: usize,
) -> Result<Fitted> {
    while let Next::Run(request) = estimator.next()? {
        let rows = if request.rows == RoundRows::Evaluation { evaluation } else { data };
        estimator.take(round(&request, rows, parts), Duration::from_millis(3))?;
    }
    estimator.finish()
}

/// The result for the rows with these options.
fn fit(data: &Data, given: &[(&str, OptionValue)]) -> Fitted {
    finish(estimator(data, false, given).unwrap(), data, data, 3).unwrap()
}

/// A member with this result.
fn trained(data: &Data, fitted: &Fitted) -> Trained {
    Trained {
        encoder: data.encoder(),
        labels: Labels::None,
        description: fitted.description.clone().unwrap(),
        parameters: fitted.parameters.clone(),
        optimizer: None,
        moments: vec![],
        steps: fitted.steps,
        rows: data.rows() as u64,
        skipped_rows: Default::default(),
        history: fitted.history.clone(),
        metrics: vec![],
        metrics_on: "training".to_owned(),
        loss: fitted.loss,
        eval_loss: fitted.eval_loss,
    }
}

/// The tensors of a result: components, mean, variances, total.
fn tensors(data: &Data, fitted: &Fitted) -> [Vec<f64>; 4] {
    let layout = fitted.description.as_ref().unwrap().layout(data.width);
    assert_eq!(layout.len(), fitted.parameters.len());
    let names: Vec<_> = layout.tensors().iter().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["components", "mean", "explained_variance", "total_variance"]);
    let of = |i: usize| {
        let values = &fitted.parameters[layout.tensors()[i].range()];
        values.iter().map(|value| f64::from(*value)).collect()
    };
    [of(0), of(1), of(2), of(3)]
}

/// The scores of rows.
fn scores(member: &Trained, data: &Data) -> Vec<f64> {
    let predictor = member.description.predictor(member).unwrap();
    let mut out = vec![f32::NAN; data.rows() * predictor.outputs()];
    // Neither target nor weight is known.
    let rows = MiniBatch { weight: &[], ..data.batch() };
    predictor.scores(&rows, &mut predictor.scratch(256), &mut out);
    out.iter().map(|score| f64::from(*score)).collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-300_f64, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * largest,
            "{what} {i}: {found}, not {expected}"
        );
    }
}
