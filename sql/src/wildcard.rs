//! `SELECT * FROM relation` without a list of its columns.
//!
//! DataFusion's query planner compares each column of `*` with all others, by strings that it makes
//! for every pair: 10,000 columns take ten seconds. So the query is planned with a constant in
//! place of `*`, and the projection of the constant is removed afterwards.

use std::sync::Arc;

use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{Limit, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SelectItem, SetExpr, Value};

/// The query with a constant in place of `*`, where it is `SELECT * FROM relation [WHERE ...]
/// [LIMIT ...]` of one relation.
pub fn without_wildcard(query: &Query) -> Option<Query> {
    let select = query.body.as_select()?;
    let ([SelectItem::Wildcard(_)], [only]) =
        (select.projection.as_slice(), select.from.as_slice())
    else {
        return None;
    };
    if !only.joins.is_empty() || query.order_by.is_some() {
        return None;
    }
    // The query has nothing else if the text of the rest has nothing else.
    let plain = Select { selection: None, ..select.clone() };
    let rest = Query {
        with: None,
        limit_clause: None,
        body: Box::new(SetExpr::Select(Box::new(plain.clone()))),
        ..query.clone()
    };
    if rest.to_string() != format!("SELECT * FROM {}", only.relation) {
        return None;
    }
    let one = SelectItem::UnnamedExpr(Expr::value(Value::Number("1".to_owned(), false)));
    let select = Select { projection: vec![one], selection: select.selection.clone(), ..plain };
    Some(Query { body: Box::new(SetExpr::Select(Box::new(select))), ..query.clone() })
}

/// The plan of such a query with all columns of its relation.
///
/// # Errors
/// When it is the plan of another query.
pub fn with_all_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(one) => Ok(Arc::unwrap_or_clone(one.input)),
        LogicalPlan::Limit(limit) => {
            let input = Arc::new(with_all_columns(Arc::unwrap_or_clone(limit.input))?);
            Ok(LogicalPlan::Limit(Limit { input, ..limit }))
        }
        other => internal_err!("a constant of each row is planned as {}", other.display()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    fn without(sql: &str) -> Option<String> {
        without_wildcard(&crate::parsers::query(sql).unwrap()).map(|query| query.to_string())
    }

    #[test]
    fn all_columns_of_one_relation_are_not_listed() {
        for (sql, expected) in [
            ("SELECT * FROM t", "SELECT 1 FROM t"),
            (
                "SELECT * FROM 'a.csv' AS a WHERE x > 1 LIMIT 3",
                "SELECT 1 FROM 'a.csv' AS a WHERE x > 1 LIMIT 3",
            ),
            (
                "WITH c AS (SELECT 1 AS x) SELECT * FROM c",
                "WITH c AS (SELECT 1 AS x) SELECT 1 FROM c",
            ),
            (
                "SELECT * FROM (SELECT * FROM t) AS s OFFSET 2",
                "SELECT 1 FROM (SELECT * FROM t) AS s OFFSET 2",
            ),
            (
                "SELECT * FROM predict_rows('m', (SELECT 1))",
                "SELECT 1 FROM predict_rows('m', (SELECT 1))",
            ),
        ] {
            assert_eq!(without(sql).as_deref(), Some(expected));
        }
        for sql in [
            "SELECT x FROM t",
            "SELECT *, 1 FROM t",
            "SELECT t.* FROM t",
            "SELECT * EXCLUDE (x) FROM t",
            "SELECT DISTINCT * FROM t",
            "SELECT * FROM t JOIN u USING (x)",
            "SELECT * FROM t, u",
            "SELECT * FROM t ORDER BY x",
            "SELECT * FROM t GROUP BY ALL",
            "SELECT * FROM t QUALIFY row_number() OVER () = 1",
            "SELECT * FROM t UNION ALL SELECT * FROM u",
            "SELECT 1",
        ] {
            assert_eq!(without(sql), None, "{sql}");
        }
    }

    #[tokio::test]
    async fn rows_and_columns_are_those_of_the_query() {
        let context = SessionContext::new();
        let make =
            "CREATE TABLE t AS SELECT value AS x, -value AS \"Y z\" FROM generate_series(1, 9)";
        context.sql(make).await.unwrap().collect().await.unwrap();
        for sql in [
            "SELECT * FROM t",
            "SELECT * FROM t AS u WHERE u.x > 3",
            "SELECT * FROM t WHERE x > 3 LIMIT 4 OFFSET 1",
            "WITH c AS (SELECT \"Y z\" FROM t WHERE x > 5) SELECT * FROM c AS d",
        ] {
            let plain = context.sql(sql).await.unwrap();
            let one = without(sql).unwrap();
            let plan = with_all_columns(context.sql(&one).await.unwrap().into_unoptimized_plan());
            let own = context.execute_logical_plan(plan.unwrap()).await.unwrap();
            assert_eq!(plain.schema(), own.schema(), "{sql}");
            assert_eq!(plain.collect().await.unwrap(), own.collect().await.unwrap(), "{sql}");
        }
    }
}
