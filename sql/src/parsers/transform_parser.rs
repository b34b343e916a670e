//! `TRANSFORM ( select-list )`: only deterministic scalar expressions.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Function, Ident, ObjectName, Query, SelectItem, Value, Visit, Visitor,
    WildcardAdditionalOptions,
};

use super::cursor::Cursor;
use crate::statements::{TransformItem, exact, folded};

/// Takes `( select-list )` after TRANSFORM.
pub(super) fn parse_transform(cursor: &mut Cursor<'_>) -> Result<Vec<TransformItem>> {
    let inside = cursor.parenthesized("after TRANSFORM")?;
    if inside.is_at_end() {
        return plan_err!("TRANSFORM () is empty; write at least one expression AS name");
    }
    let items = inside.parse_all("the select list of TRANSFORM", |parser| {
        parser.parse_comma_separated(|parser| parser.parse_select_item())
    })?;
    items.into_iter().map(transform_item).collect()
}

fn transform_item(item: SelectItem) -> Result<TransformItem> {
    match item {
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => {
            Ok(TransformItem::Column { name: folded(&column), expression: column.to_string() })
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            check_expression(&expr)?;
            Ok(TransformItem::Column { name: folded(&alias), expression: exact(&expr) })
        }
        SelectItem::UnnamedExpr(expr) => {
            check_expression(&expr)?;
            plan_err!("{expr} in TRANSFORM needs a name; write {expr} AS some_name")
        }
        SelectItem::ExprWithAliases { expr, .. } => {
            plan_err!("{expr} in TRANSFORM has several names; write {expr} AS some_name")
        }
        SelectItem::Wildcard(options) => wildcard(options),
        SelectItem::QualifiedWildcard(..) => {
            plan_err!(
                "{item} in TRANSFORM has a table's name; write * for all columns of the query"
            )
        }
    }
}

fn wildcard(options: WildcardAdditionalOptions) -> Result<TransformItem> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    let refused = [
        ("ILIKE", opt_ilike.is_some()),
        ("RENAME", opt_rename.is_some()),
        ("an alias", opt_alias.is_some()),
    ];
    if let Some((what, _)) = refused.iter().find(|(_, is_given)| *is_given) {
        return plan_err!("* in TRANSFORM takes EXCEPT and REPLACE, found {what}");
    }
    let mut except = vec![];
    match opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => except.push(single_name(&name)?),
        Some(ExcludeSelectItem::Multiple(names)) => {
            for name in &names {
                except.push(single_name(name)?);
            }
        }
        None => {}
    }
    if let Some(list) = opt_except {
        let names: Vec<Ident> =
            std::iter::once(list.first_element).chain(list.additional_elements).collect();
        except.extend(names.iter().map(folded));
    }
    let mut replace = vec![];
    for element in opt_replace.into_iter().flat_map(|list| list.items) {
        check_expression(&element.expr)?;
        replace.push((folded(&element.column_name), exact(&element.expr)));
    }
    Ok(TransformItem::Wildcard { except, replace })
}

fn single_name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [part] if part.as_ident().is_some() => Ok(part.as_ident().map(folded).unwrap_or_default()),
        _ => plan_err!("EXCLUDE in TRANSFORM takes names of columns, found {name}"),
    }
}

/// Refuses expressions that are not a function of one row alone.
fn check_expression(expression: &Expr) -> Result<()> {
    match expression.visit(&mut Refusal) {
        ControlFlow::Break(what) => plan_err!(
            "TRANSFORM takes expressions of one row that always give the same value, found {what} \
             in {expression}; compute it in the query"
        ),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Stops at the first thing that TRANSFORM cannot take, with its name.
struct Refusal;

impl Visitor for Refusal {
    type Break = String;

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<String> {
        ControlFlow::Break("a subquery".to_owned())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        match expression {
            Expr::Function(function) => function_refusal(function),
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => ControlFlow::Break(format!("the placeholder {name}")),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn function_refusal(function: &Function) -> ControlFlow<String> {
    let name = match function.name.0.as_slice() {
        [part] => part.as_ident().map(folded).unwrap_or_default(),
        _ => function.name.to_string(),
    };
    if function.over.is_some() || WINDOWS.contains(&name) {
        return ControlFlow::Break(format!("the window function {name}"));
    }
    if AGGREGATES.contains(&name) {
        return ControlFlow::Break(format!("the aggregate {name}"));
    }
    if UNSTABLE.contains(&name) {
        return ControlFlow::Break(format!("{name}(), whose value changes,"));
    }
    if name == "unnest" {
        return ControlFlow::Break("unnest(), which makes several rows of one,".to_owned());
    }
    if ["predict", "predict_proba"].contains(&name.as_str()) {
        return ControlFlow::Break(format!("{name}(), whose model may change,"));
    }
    ControlFlow::Continue(())
}

/// The aggregates of DataFusion, and Gradlake's for training and metrics.
static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = datafusion::functions_aggregate::all_default_aggregate_functions();
    let metrics = gradlake_udfs::metric_functions();
    let all = functions.iter().chain(&metrics).flat_map(|f| names(f.name(), f.aliases()));
    all.chain([gradlake_udfs::TRAIN.to_owned()]).collect()
});

static WINDOWS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = datafusion::functions_window::all_default_window_functions();
    functions.iter().flat_map(|f| names(f.name(), f.aliases())).collect()
});

/// Functions that give different values in another statement, row or position.
static UNSTABLE: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = datafusion::functions::all_default_functions();
    let unstable = functions.iter().filter(|f| f.signature().volatility != Volatility::Immutable);
    // `current_timestamp` is an alias of now(); the standard's other words are refused as well.
    let words = ["localtime", "localtimestamp"].map(ToOwned::to_owned);
    unstable.flat_map(|f| names(f.name(), f.aliases())).chain(words).collect()
});

fn names(name: &str, aliases: &[String]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(aliases.iter().cloned()).collect()
}
