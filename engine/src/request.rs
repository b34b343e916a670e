//! The request of a TRAIN statement, once it is parsed and its query planned.

use std::fmt::Write;

use datafusion::common::{Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::unparser::plan_to_sql;
use gradlake_udfs::network::LayersClause;
use gradlake_udfs::{Algorithm, OptionGroup};

use crate::names::quoted;
use crate::options::{OptionValue, TrainOptions};

/// A training: the tree of a TRAIN statement with its query as a plan.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// Name of the model.
    pub name: String,
    /// OR REPLACE: publish the next version of an existing model.
    pub or_replace: bool,
    /// IF NOT EXISTS: leave an existing model alone.
    pub if_not_exists: bool,
    /// USING.
    pub algorithm: Algorithm,
    /// TRANSFORM as (output name, SQL expression); empty without the clause.
    pub transform: Vec<(String, String)>,
    /// TARGET; empty without the clause.
    pub targets: Vec<String>,
    /// FEATURES; every other column if absent.
    pub features: Option<Vec<String>>,
    /// WEIGHT.
    pub weight: Option<String>,
    /// PARTITION BY; empty without the clause.
    pub partition_by: Vec<String>,
    /// CONTINUE: a model and the version to continue.
    pub continue_from: Option<(String, Option<u64>)>,
    /// LAYERS; empty without the clause.
    pub layers: Vec<LayersClause>,
    /// Checked options.
    pub options: TrainOptions,
    /// The query, before TRANSFORM.
    pub query: LogicalPlan,
    /// The normalised text of the statement: a checkpoint belongs to it.
    pub statement: String,
}

impl TrainRequest {
    /// Begins a training of model `name` on the rows of a DataFrame.
    ///
    /// ```no_run
    /// # use gradlake_engine::{Engine, EngineOptions, EventSink, TrainRequest};
    /// # async fn train() -> datafusion::common::Result<()> {
    /// let engine = Engine::open(EngineOptions::default())?;
    /// let rows = engine.context().table("houses").await?;
    /// let request = TrainRequest::builder("price", "mlp_regressor", rows)
    ///     .target("price")
    ///     .features(["rooms", "area"])
    ///     .option("hidden", vec![64, 32])
    ///     .option("epochs", 20)
    ///     .build()?;
    /// let events: EventSink = std::sync::Arc::new(|event| println!("{event:?}"));
    /// engine.train(&request, &events).await?;
    /// # Ok(()) }
    /// ```
    pub fn builder(
        name: impl Into<String>,
        algorithm: impl Into<String>,
        rows: DataFrame,
    ) -> TrainRequestBuilder {
        TrainRequestBuilder {
            name: name.into(),
            algorithm: algorithm.into(),
            query: rows.into_unoptimized_plan(),
            or_replace: false,
            if_not_exists: false,
            transform: vec![],
            targets: vec![],
            features: None,
            weight: None,
            partition_by: vec![],
            continue_from: None,
            layers: vec![],
            options: vec![],
        }
    }

    /// What a checkpoint must have in common with the statement that resumes it: everything but OR
    /// REPLACE and IF NOT EXISTS, which say what to do about an existing model.
    pub fn fingerprint(&self) -> String {
        let statement = self.statement.as_str();
        let rest = ["TRAIN OR REPLACE MODEL ", "TRAIN MODEL IF NOT EXISTS ", "TRAIN MODEL "]
            .iter()
            .find_map(|prefix| statement.strip_prefix(prefix))
            .unwrap_or(statement);
        format!("TRAIN MODEL {rest}")
    }
}

/// A [`TrainRequest`] in the making; see [`TrainRequest::builder`]. Each method is the clause of
/// TRAIN that has its name.
#[derive(Clone, Debug)]
pub struct TrainRequestBuilder {
    name: String,
    algorithm: String,
    query: LogicalPlan,
    or_replace: bool,
    if_not_exists: bool,
    transform: Vec<(String, String)>,
    targets: Vec<String>,
    features: Option<Vec<String>>,
    weight: Option<String>,
    partition_by: Vec<String>,
    continue_from: Option<(String, Option<u64>)>,
    layers: Vec<LayersClause>,
    options: Vec<(String, OptionValue)>,
}

impl TrainRequestBuilder {
    /// Publishes the next version of an existing model.
    pub fn or_replace(mut self) -> Self {
        self.or_replace = true;
        self
    }

    /// Leaves an existing model alone.
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// The column to predict. Called again, it adds another.
    pub fn target(mut self, column: impl Into<String>) -> Self {
        self.targets.push(column.into());
        self
    }

    /// The columns to predict from; all others if it is not called.
    pub fn features(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.features = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// The column of row weights.
    pub fn weight(mut self, column: impl Into<String>) -> Self {
        self.weight = Some(column.into());
        self
    }

    /// Columns whose distinct values get a model each.
    pub fn partition_by(mut self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.partition_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// A computed column that is stored in the model: its name and its expression in SQL.
    pub fn transform(mut self, name: impl Into<String>, expression: impl Into<String>) -> Self {
        self.transform.push((name.into(), expression.into()));
        self
    }

    /// Continues a model: the given version, or the one that PREDICT uses.
    pub fn continue_from(mut self, model: impl Into<String>, version: Option<u64>) -> Self {
        self.continue_from = Some((model.into(), version));
        self
    }

    /// Layers of a branch, or of the trunk of a network. Called again, it adds another clause.
    pub fn layers(mut self, clause: LayersClause) -> Self {
        self.layers.push(clause);
        self
    }

    /// An option of WITH.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<OptionValue>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Checks the request.
    ///
    /// # Errors
    /// When there is no such algorithm, or an option is unknown, out of range or contradicts
    /// another. Columns are checked when the training begins.
    pub fn build(self) -> Result<TrainRequest> {
        let Ok(algorithm) = self.algorithm.parse::<Algorithm>() else {
            return plan_err!(
                "unknown algorithm {}; there are {}",
                self.algorithm,
                Algorithm::names().join(", ")
            );
        };
        let options = TrainOptions::check(algorithm, &self.options)?;
        check_layers(algorithm, &self.layers)?;
        let statement = self.statement();
        Ok(TrainRequest {
            name: self.name,
            or_replace: self.or_replace,
            if_not_exists: self.if_not_exists,
            algorithm,
            transform: self.transform,
            targets: self.targets,
            features: self.features,
            weight: self.weight,
            partition_by: self.partition_by,
            continue_from: self.continue_from,
            layers: self.layers,
            options,
            query: self.query,
            statement,
        })
    }

    /// The equivalent statement: the record of the model shows it, and it identifies a checkpoint.
    fn statement(&self) -> String {
        let list =
            |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let mut text = "TRAIN ".to_owned();
        if self.or_replace {
            text += "OR REPLACE ";
        }
        text += "MODEL ";
        if self.if_not_exists {
            text += "IF NOT EXISTS ";
        }
        let _ = write!(text, "{} USING {}", quoted(&self.name), self.algorithm);
        if !self.transform.is_empty() {
            let items = self.transform.iter();
            let items = items.map(|(name, expression)| format!("{expression} AS {}", quoted(name)));
            let _ = write!(text, " TRANSFORM ({})", items.collect::<Vec<_>>().join(", "));
        }
        match self.targets.as_slice() {
            [] => {}
            [target] => _ = write!(text, " TARGET {}", quoted(target)),
            targets => _ = write!(text, " TARGET ({})", list(targets)),
        }
        if let Some(features) = &self.features {
            let _ = write!(text, " FEATURES ({})", list(features));
        }
        if let Some(weight) = &self.weight {
            let _ = write!(text, " WEIGHT {}", quoted(weight));
        }
        if !self.partition_by.is_empty() {
            let _ = write!(text, " PARTITION BY {}", list(&self.partition_by));
        }
        if let Some((name, version)) = &self.continue_from {
            let _ = write!(text, " CONTINUE {}", quoted(name));
            if let Some(version) = version {
                let _ = write!(text, " VERSION {version}");
            }
        }
        for clause in &self.layers {
            let _ = write!(text, " {}", clause.text(quoted));
        }
        if !self.options.is_empty() {
            let pairs = self.options.iter().map(|(n, v)| format!("{} = {v}", quoted(n)));
            let _ = write!(text, " WITH ({})", pairs.collect::<Vec<_>>().join(", "));
        }
        // (Plans that cannot be written as SQL are written as DataFusion displays them.)
        let query = match plan_to_sql(&self.query) {
            Ok(query) => query.to_string(),
            Err(_) => self.query.display_indent().to_string(),
        };
        format!("{text} AS {query}")
    }
}

/// Refuses layers of an algorithm that has none of its own choice.
///
/// # Errors
/// When there are some.
pub fn check_layers(algorithm: Algorithm, layers: &[LayersClause]) -> Result<()> {
    if layers.is_empty() || algorithm.takes(OptionGroup::Networks) {
        return Ok(());
    }
    plan_err!(
        "{algorithm} takes no LAYERS; they belong to {}",
        Algorithm::takers(OptionGroup::Networks)
    )
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn rows() -> DataFrame {
        SessionContext::new().sql("SELECT 1.0 AS x, 2.0 AS y, 1 AS g").await.unwrap()
    }

    #[tokio::test]
    async fn a_builder_says_what_a_statement_says() {
        let request = TrainRequest::builder("m", "mlp_regressor", rows().await)
            .or_replace()
            .target("y")
            .features(["x"])
            .partition_by(["g"])
            .option("hidden", vec![8, 4])
            .option("learning_rate", 0.5)
            .option("shuffle", false)
            .option("optimizer", "sgd")
            .build()
            .unwrap();
        assert_eq!(request.options.hidden, [8, 4]);
        assert_eq!(request.options.learning_rate, 0.5);
        assert!(request.or_replace && !request.options.shuffle);
        assert!(
            request.statement.starts_with(
                "TRAIN OR REPLACE MODEL m USING mlp_regressor TARGET y FEATURES (x) PARTITION BY g WITH \
                 (hidden = [8, 4], learning_rate = 0.5, shuffle = FALSE, optimizer = 'sgd') AS SELECT"
            ),
            "{}",
            request.statement
        );
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let build = async |algorithm: &str, option: &str| {
            let builder = TrainRequest::builder("m", algorithm, rows().await).option(option, 1);
            builder.build().unwrap_err().to_string()
        };
        let error = build("mlp", "epochs").await;
        assert!(error.contains("unknown algorithm mlp; there are linear_regression"), "{error}");
        let error = build("linear_svm", "epoch").await;
        assert!(error.contains("unknown option epoch; did you mean epochs?"), "{error}");
    }
}
