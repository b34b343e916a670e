//! The architecture that follows from the features, where a statement has no LAYERS.

use super::call::LayerSpec;
use super::clause::{Branch, LayersClause};
use crate::encoder::{Encoder, Feature, FeatureKind};

/// Sides of an image at least.
const MIN_SIDE: usize = 8;

/// The clauses: a small residual network for each image, 1-d convolutions and a GRU for each
/// sequence, dense layers for all other columns, joined where there are several.
pub fn clauses(encoder: &Encoder) -> Vec<LayersClause> {
    let mut clauses = vec![];
    let mut others = 0;
    for feature in encoder.features() {
        let layers = match (image_shape(feature), feature.shape().as_slice()) {
            (Some(shape), _) => image(feature, shape),
            (None, [_, _]) => sequence(),
            _ => {
                others += 1;
                continue;
            }
        };
        let branch = Branch::Columns(vec![feature.name.clone()]);
        clauses.push(LayersClause { branch, layers });
    }
    let dense = |units: usize| [LayerSpec::new("dense").with(units), LayerSpec::new("relu")];
    if clauses.is_empty() {
        let layers = [dense(128), dense(64)].concat();
        return vec![LayersClause { branch: Branch::Trunk, layers }];
    }
    if others > 0 {
        clauses.push(LayersClause { branch: Branch::Others, layers: dense(64).to_vec() });
    }
    if clauses.len() > 1 {
        let layers = dense(64).to_vec();
        clauses.push(LayersClause { branch: Branch::Trunk, layers });
    }
    clauses
}

/// `[height, width, channels]` of a column of images: lists of such lists, or bytes that make a
/// square of one channel or of three.
fn image_shape(feature: &Feature) -> Option<[usize; 3]> {
    match (feature.shape().as_slice(), &feature.kind) {
        ([height, width, channels], _) => Some([*height, *width, *channels]),
        ([n], FeatureKind::Bytes(_)) => [1, 3].into_iter().find_map(|channels| {
            let side = (n / channels).isqrt();
            (side >= MIN_SIDE && side * side * channels == *n).then_some([side, side, channels])
        }),
        _ => None,
    }
}

fn conv(filters: usize) -> [LayerSpec; 2] {
    let conv = LayerSpec::new("conv").with(filters).with(3usize).named("padding", "same");
    [conv, LayerSpec::new("batch_norm")]
}

/// A residual network after He et al. 2016: two blocks, each at half the size of the one before.
fn image(feature: &Feature, shape: [usize; 3]) -> Vec<LayerSpec> {
    let (relu, pool) = (LayerSpec::new("relu"), LayerSpec::new("max_pool").with(2usize));
    let block = |filters: usize| {
        let [first, norm] = conv(filters);
        let [second, last] = conv(filters);
        let layers = vec![first, norm, LayerSpec::new("relu"), second, last];
        LayerSpec::new("residual").around(layers)
    };
    let mut layers = vec![];
    if feature.shape().len() == 1 {
        let [height, width, channels] = shape;
        layers.push(LayerSpec::new("reshape").with(height).with(width).with(channels));
    }
    layers.extend(conv(32));
    layers.push(relu.clone());
    let mut side = shape[0].min(shape[1]);
    for filters in [32, 64] {
        if side >= 4 {
            layers.push(pool.clone());
            side /= 2;
        }
        layers.push(block(filters));
        layers.push(relu.clone());
    }
    layers.push(LayerSpec::new("global_avg_pool"));
    layers
}

/// Convolutions over time, then a GRU.
fn sequence() -> Vec<LayerSpec> {
    let conv = LayerSpec::new("conv").with(32usize).with(3usize).named("padding", "same");
    vec![conv, LayerSpec::new("relu"), LayerSpec::new("gru").with(64usize)]
}
