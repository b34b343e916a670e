//! Origin the layers of a clause to nodes.

use datafusion_common::{Result, plan_err};

use super::architecture::{Architecture, Compiled, Node, Origin, compile};
use super::call::{Call, LayerSpec, Value};
use super::layer::{Content, Incoming, shape_text};
use super::layers::{DEFINITIONS, definition};
use crate::options::nearest;

/// Adds the layers of clauses to an architecture.
#[derive(Debug)]
pub struct Builder {
    architecture: Architecture,
    compiled: Vec<Compiled>,
}

impl Builder {
    /// Goes on behind the nodes of an architecture.
    ///
    /// # Errors
    /// When one of its layers does not fit what it reads.
    pub fn new(architecture: Architecture) -> Result<Self> {
        let compiled = architecture.compile()?;
        Ok(Self { architecture, compiled })
    }

    /// The architecture with all layers so far.
    pub fn finish(self) -> Architecture {
        self.architecture
    }

    /// The shape of an input or node.
    ///
    /// # Errors
    /// When there is none.
    pub fn shape(&self, from: Origin) -> Result<Vec<usize>> {
        Ok(self.incoming(from)?.shape())
    }

    fn incoming(&self, from: Origin) -> Result<Incoming> {
        self.architecture.incoming(from, &self.compiled)
    }

    /// Adds layers one behind the other, the first behind `from`, and returns where they end.
    /// Several branches are joined: by the first layer where it takes several inputs, otherwise by
    /// a `concat` before it.
    ///
    /// # Errors
    /// When a layer is unknown, has wrong arguments, or does not fit what it reads.
    pub fn chain(&mut self, layers: &[LayerSpec], from: &[Origin]) -> Result<Origin> {
        let mut from = from.to_vec();
        for layer in layers {
            let joins = matches!(layer.name.as_str(), "concat" | "add" | "dot" | "dense");
            if from.len() > 1 && !joins {
                from = vec![self.add(&LayerSpec::new("concat"), &from)?];
            }
            from = vec![self.layer(layer, &from)?];
        }
        match from.as_slice() {
            [only] => Ok(*only),
            [] => plan_err!("layers need something to read"),
            _ => self.add(&LayerSpec::new("concat"), &from),
        }
    }

    /// Adds the output layer `output`: `dense(outputs)`. An image before it is flattened; a
    /// sequence is flattened too if all its rows are equally long, otherwise the mean of its valid
    /// steps is taken.
    ///
    /// # Errors
    /// When nothing fits.
    pub fn output(&mut self, outputs: usize, intercept: bool, from: &[Origin]) -> Result<Origin> {
        let mut sources = vec![];
        for from in from {
            let own = self.incoming(*from)?;
            sources.push(match (&own.content, &own.mask) {
                (Content::Numbers(shape), Some(_)) if shape.len() > 1 => {
                    self.add(&LayerSpec::new("global_avg_pool"), &[*from])?
                }
                (Content::Numbers(shape), _) if shape.len() > 1 => {
                    self.add(&LayerSpec::new("flatten"), &[*from])?
                }
                _ => *from,
            });
        }
        let dense = LayerSpec::new("dense").with(outputs);
        let dense = if intercept { dense } else { dense.named("bias", false) };
        self.layer(&dense.named_as("output"), &sources)
    }

    /// Adds one layer, or the several that it stands for.
    fn layer(&mut self, spec: &LayerSpec, from: &[Origin]) -> Result<Origin> {
        match spec.name.as_str() {
            "residual" => self.residual(spec, from),
            "transformer" => self.transformer(spec, from),
            _ => self.add(spec, from),
        }
    }

    /// Adds the node of one layer.
    fn add(&mut self, spec: &LayerSpec, from: &[Origin]) -> Result<Origin> {
        let Some(own) = definition(&spec.name) else {
            let names = DEFINITIONS.iter().map(|own| own.name);
            return match nearest(&spec.name, names.clone()) {
                Some(near) => plan_err!("there is no layer {}; did you mean {near}?", spec.name),
                None => plan_err!(
                    "there is no layer {}; there are {}",
                    spec.name,
                    names.collect::<Vec<_>>().join(", ")
                ),
            };
        };
        let call = own.call(spec)?;
        let name = self.name_of(spec)?;
        let inputs: Vec<_> = from.iter().map(|from| self.incoming(*from)).collect::<Result<_>>()?;
        let node = Node { name, call, inputs: from.to_vec() };
        self.compiled.push(compile(&node, &inputs)?);
        self.architecture.nodes.push(node);
        Ok(Origin::Node(self.architecture.nodes.len() - 1))
    }

    fn has(&self, name: &str) -> bool {
        let mut nodes = self.architecture.nodes.iter();
        nodes.any(|node| {
            let rest = node.name.strip_prefix(name);
            // (A block has the names of its parts too: `transformer_1_attention`.)
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
    }

    /// The name that is given, or the layer's with the first free number.
    fn name_of(&self, spec: &LayerSpec) -> Result<String> {
        match &spec.alias {
            Some(alias) if self.architecture.nodes.iter().any(|node| node.name == *alias) => {
                plan_err!("two layers are named {alias}; give one of them another name")
            }
            Some(alias) => Ok(alias.clone()),
            None => {
                let mut names = (1..).map(|i| format!("{}_{i}", spec.name));
                Ok(names.find(|name| !self.has(name)).unwrap_or_default())
            }
        }
    }

    /// `x + layers(x)`, with a projection of `x` where the shapes differ (He et al. 2016).
    fn residual(&mut self, spec: &LayerSpec, from: &[Origin]) -> Result<Origin> {
        if !spec.positional.is_empty() || !spec.named.is_empty() {
            return plan_err!("residual takes layers alone, such as residual(conv(32, 3), relu)");
        }
        if spec.layers.is_empty() {
            return plan_err!("residual needs layers, such as residual(conv(32, 3), relu)");
        }
        let name = self.name_of(spec)?;
        let from = match from {
            [only] => *only,
            several => self.add(&LayerSpec::new("concat"), several)?,
        };
        let end = self.chain(&spec.layers, &[from])?;
        let (before, after) = (self.shape(from)?, self.shape(end)?);
        let short = match before == after {
            true => from,
            false => {
                let projection = projection(&name, &before, &after)?;
                let to = self.add(&projection.named_as(&format!("{name}_projection")), &[from])?;
                if self.shape(to)? != after {
                    return plan_err!(
                        "{name} cannot add its input {} to its output {}",
                        shape_text(&before),
                        shape_text(&after)
                    );
                }
                to
            }
        };
        self.add(&LayerSpec::new("add").named_as(&name), &[short, end])
    }

    /// PyTorch's `TransformerEncoderLayer` (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).
    fn transformer(&mut self, spec: &LayerSpec, from: &[Origin]) -> Result<Origin> {
        let Some(own) = definition("transformer") else {
            return plan_err!("there is no layer transformer");
        };
        let call = own.call(spec)?;
        let name = self.name_of(spec)?;
        let [from] = *from else {
            return plan_err!("{name} takes one sequence [steps, channels]");
        };
        let shape = self.shape(from)?;
        let [_, channels] = *shape.as_slice() else {
            return plan_err!(
                "{name} takes a sequence [steps, channels], but its input is {}",
                self.incoming(from)?.text()
            );
        };
        let value = |name: &str| call.get(name).cloned();
        let given = |name: &str, or: Value| value(name).unwrap_or(or);
        let dropout = given("dropout", Value::Number(0.0));
        let part = |own: &str, part: &str| LayerSpec::new(own).named_as(&format!("{name}_{part}"));
        let attention = part("attention", "attention")
            .with_value(given("heads", Value::Number(1.0)))
            .named_value("causal", given("causal", Value::Flag(false)))
            .named_value("dropout", dropout.clone());
        let hidden = given("hidden", Value::from(4 * channels));
        let activation = match given("activation", "relu".into()) {
            Value::Text(word) => word,
            _ => "relu".to_string(),
        };
        let drop = |i: usize| part("dropout", &format!("dropout_{i}")).with_value(dropout.clone());
        let attend = [attention, drop(1)];
        let feed = [
            part("dense", "dense_1").with_value(hidden),
            part(&activation, "activation"),
            drop(2),
            part("dense", "dense_2").with(channels),
            drop(3),
        ];
        let norm = |i: usize| part("layer_norm", &format!("norm_{i}"));
        let is_pre = value("norm") == Some("pre".into());
        let mut x = from;
        let blocks: [&[LayerSpec]; 2] = [&attend, &feed];
        for (i, layers) in blocks.into_iter().enumerate() {
            let is_last = i == 1;
            let sum =
                if is_last && is_pre { name.clone() } else { format!("{name}_add_{}", i + 1) };
            let sum = LayerSpec::new("add").named_as(&sum);
            let begin = if is_pre { self.add(&norm(i + 1), &[x])? } else { x };
            let end = self.chain(layers, &[begin])?;
            x = self.add(&sum, &[x, end])?;
            if !is_pre {
                let norm = norm(i + 1);
                let norm = if is_last { norm.named_as(&name) } else { norm };
                x = self.add(&norm, &[x])?;
            }
        }
        Ok(x)
    }
}

impl LayerSpec {
    fn with_value(mut self, value: Value) -> Self {
        self.positional.push(value);
        self
    }

    fn named_value(mut self, name: &str, value: Value) -> Self {
        self.named.push((name.to_string(), value));
        self
    }
}

/// The layer that brings `before` to the shape `after`: a dense layer for vectors, otherwise a
/// convolution of 1 by 1 with a stride.
fn projection(name: &str, before: &[usize], after: &[usize]) -> Result<LayerSpec> {
    let (Some((&channels, outer_after)), Some((_, outer_before))) =
        (after.split_last(), before.split_last())
    else {
        return plan_err!("{name} reads nothing");
    };
    if outer_before.len() != outer_after.len() || outer_before.len() > 2 {
        return plan_err!(
            "{name} cannot add its input {} to its output {}",
            shape_text(before),
            shape_text(after)
        );
    }
    if outer_before.is_empty() {
        return Ok(LayerSpec::new("dense").with(channels));
    }
    let strides = outer_before.iter().zip(outer_after).map(|(n, m)| n.div_ceil(*m).into());
    let mut spec = LayerSpec::new("conv").with(channels).with(1usize);
    spec = spec.named_value("stride", Value::List(strides.collect()));
    Ok(spec)
}

/// The call of a layer, checked and with defaults filled in.
///
/// # Errors
/// When the layer is unknown or an argument is.
pub fn check_call(spec: &LayerSpec) -> Result<Call> {
    match definition(&spec.name) {
        Some(own) => own.call(spec),
        None => plan_err!("there is no layer {}", spec.name),
    }
}
