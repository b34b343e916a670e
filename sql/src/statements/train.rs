//! `TRAIN MODEL`.

use std::collections::{HashMap, HashSet};
use std::fmt;

use datafusion::common::plan_err;
use datafusion::error::Result;
use gradlake_engine::{OptionValue, nearest, suggestion};
use gradlake_udfs::network::LayersClause;
use gradlake_udfs::{Algorithm, Names};

use super::name::{list, quoted, write_options, write_version};
use super::source::Source;

/// `TRAIN MODEL`.
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    /// OR REPLACE: publish the next version of an existing model.
    pub or_replace: bool,
    /// IF NOT EXISTS: leave an existing model alone.
    pub if_not_exists: bool,
    /// Name of the model.
    pub name: String,
    /// USING, in lower case, not checked; see [`Train::algorithm`].
    pub algorithm: String,
    /// TRANSFORM; empty without the clause.
    pub transform: Vec<TransformItem>,
    /// TARGET.
    pub targets: Vec<String>,
    /// FEATURES; None without the clause.
    pub features: Option<Vec<String>>,
    /// WEIGHT.
    pub weight: Option<String>,
    /// PARTITION BY; empty without the clause.
    pub partition_by: Vec<String>,
    /// CONTINUE: a model and the version to continue from.
    pub continue_from: Option<(String, Option<u64>)>,
    /// LAYERS, in the order given.
    pub layers: Vec<LayersClause>,
    /// WITH, in the order given.
    pub options: Vec<(String, OptionValue)>,
    /// AS or FROM.
    pub source: Source,
}

/// One item of TRANSFORM's select list.
#[derive(Clone, Debug, PartialEq)]
pub enum TransformItem {
    /// `expression AS name`, or a plain column.
    Column {
        /// Name of the output.
        name: String,
        /// The expression as normalised SQL.
        expression: String,
    },
    /// `* [EXCEPT (a, ...)] [REPLACE (expression AS name, ...)]`
    Wildcard {
        /// Columns left out.
        except: Vec<String>,
        /// (name, expression) of columns whose values are replaced.
        replace: Vec<(String, String)>,
    },
}

impl TransformItem {
    /// (output name, expression) of every item, wildcards expanded over the query's columns.
    ///
    /// # Errors
    /// When two outputs have one name, or a wildcard names a column that the query lacks.
    pub fn expand(items: &[Self], columns: &[&str]) -> Result<Vec<(String, String)>> {
        let mut outputs: Vec<(String, String)> = vec![];
        let names = Names::new(columns.iter().copied());
        for item in items {
            match item {
                TransformItem::Column { name, expression } => {
                    outputs.push((name.clone(), expression.clone()));
                }
                TransformItem::Wildcard { except, replace } => {
                    let place = |name: &String| match names.find(name)? {
                        Some(place) => Ok(place),
                        None => plan_err!(
                            "the wildcard of TRANSFORM names column {name}, which the query lacks{}",
                            suggestion(nearest(name, columns.iter().copied()))
                        ),
                    };
                    let except = except.iter().map(place).collect::<Result<HashSet<_>>>()?;
                    let mut replaced = HashMap::new();
                    for (name, expression) in replace {
                        replaced.insert(place(name)?, expression);
                    }
                    for (place, &column) in columns.iter().enumerate() {
                        if except.contains(&place) {
                            continue;
                        }
                        let expression = match replaced.get(&place) {
                            Some(expression) => (*expression).clone(),
                            // Always quoted: a column may have the name of a keyword.
                            None => format!("\"{}\"", column.replace('"', "\"\"")),
                        };
                        outputs.push((column.to_owned(), expression));
                    }
                }
            }
        }
        let mut taken = HashSet::new();
        for (name, _) in &outputs {
            if !taken.insert(name) {
                return plan_err!(
                    "TRANSFORM has two outputs called {name}; give one of them another alias, or \
                     leave the column out with * EXCEPT ({})",
                    quoted(name)
                );
            }
        }
        Ok(outputs)
    }
}

impl Train {
    /// The algorithm that USING names.
    ///
    /// # Errors
    /// When there is none of that name; the error lists the nearest spelling and all names.
    pub fn algorithm(&self) -> Result<Algorithm> {
        self.algorithm.parse().or_else(|()| {
            let names = Algorithm::names();
            plan_err!(
                "unknown algorithm {}{}; there are {}",
                self.algorithm,
                suggestion(nearest(&self.algorithm, names.iter().copied())),
                names.join(", ")
            )
        })
    }
}

impl fmt::Display for TransformItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransformItem::Column { name, expression } => {
                write!(f, "{expression} AS {}", column_alias(name))
            }
            TransformItem::Wildcard { except, replace } => {
                f.write_str("*")?;
                if !except.is_empty() {
                    write!(
                        f,
                        " EXCEPT ({})",
                        except.iter().map(|n| column_alias(n)).collect::<Vec<_>>().join(", ")
                    )?;
                }
                if !replace.is_empty() {
                    let items = replace.iter().map(|(name, expression)| {
                        format!("{expression} AS {}", column_alias(name))
                    });
                    write!(f, " REPLACE ({})", items.collect::<Vec<_>>().join(", "))?;
                }
                Ok(())
            }
        }
    }
}

/// A name as a column alias; some plain words are keywords to sqlparser and must be quoted.
fn column_alias(name: &str) -> String {
    use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
    if ALL_KEYWORDS.contains(&name.to_uppercase().as_str()) {
        format!("\"{name}\"")
    } else {
        quoted(name)
    }
}

impl fmt::Display for Train {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TRAIN ")?;
        if self.or_replace {
            f.write_str("OR REPLACE ")?;
        }
        f.write_str("MODEL ")?;
        if self.if_not_exists {
            f.write_str("IF NOT EXISTS ")?;
        }
        write!(f, "{} USING {}", quoted(&self.name), quoted(&self.algorithm))?;
        if !self.transform.is_empty() {
            let items: Vec<String> = self.transform.iter().map(ToString::to_string).collect();
            write!(f, " TRANSFORM ({})", items.join(", "))?;
        }
        match self.targets.as_slice() {
            [] => {}
            [target] => write!(f, " TARGET {}", quoted(target))?,
            targets => {
                let targets: Vec<String> = targets.iter().map(|name| quoted(name)).collect();
                write!(f, " TARGET ({})", targets.join(", "))?;
            }
        }
        if let Some(features) = &self.features {
            write!(f, " FEATURES ({})", list(features))?;
        }
        if let Some(weight) = &self.weight {
            write!(f, " WEIGHT {}", quoted(weight))?;
        }
        if !self.partition_by.is_empty() {
            write!(f, " PARTITION BY {}", list(&self.partition_by))?;
        }
        if let Some((name, version)) = &self.continue_from {
            write!(f, " CONTINUE {}", quoted(name))?;
            write_version(f, *version)?;
        }
        for clause in &self.layers {
            write!(f, " {}", clause.text(quoted))?;
        }
        write_options(f, &self.options)?;
        write!(f, " {}", self.source)
    }
}
