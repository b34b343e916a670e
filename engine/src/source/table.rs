//! A source as a table of DataFusion.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, create_lex_ordering};
use datafusion::physical_plan::ExecutionPlan;

use super::scan::{Numbers, SourceScan, numbered};
use super::{Cursor, Ledger, Source};

/// The column of [`SourceTable::numbered`] with the ordinal of each row.
pub const ROW_COLUMN: &str = "__gradlake_row";

/// An unbounded table: the rows of a source for as long as they come.
#[derive(Clone, Debug)]
pub struct SourceTable {
    source: Arc<dyn Source>,
    order: Vec<Vec<SortExpr>>,
    definition: Option<String>,
    numbers: Option<Numbers>,
    schema: SchemaRef,
}

impl SourceTable {
    /// The table of a source whose rows arrive in each of the orders of `order` (WITH ORDER:
    /// declared by the creator of the table and not checked).
    ///
    /// # Errors
    /// When a column has the name of the row numbers.
    pub fn try_new(source: Arc<dyn Source>, order: Vec<Vec<SortExpr>>) -> Result<Self> {
        let schema = source.schema();
        if schema.column_with_name(ROW_COLUMN).is_some() {
            return plan_err!("a column cannot be named {ROW_COLUMN}: training numbers rows in it");
        }
        Ok(Self { source, order, definition: None, numbers: None, schema })
    }

    /// The same table with the statement that created it.
    pub fn with_definition(self, definition: Option<String>) -> Self {
        Self { definition, ..self }
    }

    /// Where the rows come from.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The same table with one more last column, [`ROW_COLUMN`]: the ordinal of the row as the
    /// ledger numbers it. Each partition is read from its cursor in `from` on, or from its start if
    /// there is none.
    ///
    /// Ordinals ascend within a partition, and the plan says so. Over several partitions the ledger
    /// numbers batches as they arrive: a caller that consumes rows in the order of ordinals may ask
    /// it for the cursors at any of them.
    pub fn numbered(
        &self,
        ledger: Arc<Ledger>,
        from: Option<Vec<Cursor>>,
    ) -> Arc<dyn TableProvider> {
        Arc::new(Self {
            numbers: Some(Numbers { ledger, from }),
            schema: numbered(&self.source.schema()),
            ..self.clone()
        })
    }
}

/// The unbounded tables that a plan scans, in subqueries too.
///
/// # Errors
/// Never in practice.
pub fn source_tables(plan: &LogicalPlan) -> Result<Vec<SourceTable>> {
    let mut found = vec![];
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<SourceTable>()
        {
            found.push(table.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            let has_query = filter.exists(|part| {
                Ok(matches!(
                    part,
                    Expr::ScalarSubquery(_)
                        | Expr::Exists(_)
                        | Expr::InSubquery(_)
                        | Expr::SetComparison(_)
                ))
            })?;
            Ok(match has_query {
                true => TableProviderFilterPushDown::Unsupported,
                false => TableProviderFilterPushDown::Exact,
            })
        };
        filters.iter().map(support).collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = match conjunction(filters.to_vec()) {
            Some(filter) => {
                let columns = DFSchema::try_from(Arc::clone(&self.schema))?;
                Some(state.create_physical_expr(filter, &columns)?)
            }
            None => None,
        };
        let columns: Arc<[usize]> = match projection {
            Some(columns) => columns.as_slice().into(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        let mut orderings = create_lex_ordering(&schema, &self.order, state.execution_props())?;
        if self.numbers.is_some()
            && let Some((index, _)) = schema.column_with_name(ROW_COLUMN)
        {
            let number = PhysicalSortExpr::new_default(Arc::new(Column::new(ROW_COLUMN, index)));
            orderings.extend(LexOrdering::new([number]));
        }
        let (source, numbers) = (Arc::clone(&self.source), self.numbers.clone());
        Ok(Arc::new(SourceScan::new(source, numbers, filter, columns, schema, orderings)))
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!(
            "an unbounded table is read-only: rows come from its location, {}",
            self.source.location()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext, col};

    use super::super::{Reader, Report, Rows};
    use super::*;

    /// Two partitions: 0, 10, 20 ... and 5, 15, 25 ..., two rows a batch.
    #[derive(Debug)]
    struct Counting(Arc<Report>);

    struct CountingReader(Mutex<VecDeque<Rows>>);

    #[async_trait]
    impl Source for Counting {
        fn schema(&self) -> SchemaRef {
            let fields = ["x", "y"].map(|name| Field::new(name, DataType::Int64, false));
            Arc::new(Schema::new(fields.to_vec()))
        }
        fn partitions(&self) -> usize {
            2
        }
        fn is_replayable(&self) -> bool {
            true
        }
        async fn open(&self, partition: usize, from: Option<&Cursor>) -> Result<Box<dyn Reader>> {
            let start = from.map_or(0, |cursor| cursor.row);
            let rows = (start..start + 4).step_by(2).map(|row| {
                let x = Int64Array::from_iter_values(
                    (row..row + 2).map(|row| (row * 10 + partition as u64 * 5) as i64),
                );
                let batch =
                    RecordBatch::try_new(self.schema(), vec![Arc::new(x.clone()), Arc::new(x)]);
                Rows::new(batch.unwrap(), Cursor::new("", row))
            });
            Ok(Box::new(CountingReader(Mutex::new(rows.collect()))))
        }
        fn report(&self) -> Arc<Report> {
            Arc::clone(&self.0)
        }
        fn kind(&self) -> &'static str {
            "counting"
        }
        fn location(&self) -> &str {
            "nowhere"
        }
    }

    #[async_trait]
    impl Reader for CountingReader {
        async fn next(&mut self) -> Result<Option<Rows>> {
            Ok(self.0.lock().unwrap().pop_front())
        }
    }

    fn table(order: Vec<Vec<SortExpr>>) -> SourceTable {
        SourceTable::try_new(Arc::new(Counting(Arc::default())), order).unwrap()
    }

    fn context() -> SessionContext {
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1))
    }

    #[tokio::test]
    async fn a_plan_reads_well() {
        let context = context();
        let table = table(vec![vec![col("x").sort(true, false)]]);
        context.register_table("t", Arc::new(table.clone())).unwrap();
        let plan = |sql: &'static str| {
            let context = context.clone();
            async move {
                let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
                displayable(plan.as_ref()).indent(true).to_string()
            }
        };
        assert_eq!(
            plan("SELECT x FROM t").await.trim(),
            "SourceScan: kind=counting, location=nowhere, projection=[x], \
             output_ordering=[x@0 ASC NULLS LAST]"
        );
        assert_eq!(
            plan("SELECT y FROM t").await.trim(),
            "SourceScan: kind=counting, location=nowhere, projection=[y]"
        );
        assert_eq!(
            plan("SELECT y FROM t WHERE x > 1").await.trim(),
            "SourceScan: kind=counting, location=nowhere, projection=[y], filter=x@0 > 1"
        );
        let ledger = Arc::new(Ledger::new(0, vec![Cursor::default(); 2]));
        context.register_table("n", table.numbered(ledger, None)).unwrap();
        // The order of the numbers is known: nothing is sorted.
        let sorted = plan("SELECT y, __gradlake_row FROM n ORDER BY __gradlake_row").await;
        assert!(!sorted.contains("SortExec"), "{sorted}");
        assert!(sorted.contains("SortPreservingMergeExec"), "{sorted}");
    }

    #[tokio::test]
    async fn rows_carry_their_ordinal_and_the_ledger_their_place() {
        let context = context();
        let cursor = |row| Cursor::new("", row);
        let from = vec![cursor(7), cursor(2)];
        let ledger = Arc::new(Ledger::new(100, from.clone()));
        let table = table(vec![]);
        context.register_table("n", table.numbered(Arc::clone(&ledger), Some(from))).unwrap();
        let sql = "SELECT __gradlake_row AS number, y FROM n WHERE y <> 35";
        let mut stream = context.sql(sql).await.unwrap().execute_stream().await.unwrap();
        let mut batches = vec![];
        while let Some(batch) = futures::StreamExt::next(&mut stream).await {
            batches.push(batch.unwrap());
        }
        let text = pretty_format_batches(&batches).unwrap().to_string();
        for (row, y) in [(7, 70), (10, 100), (2, 25), (5, 55)] {
            assert!(text.contains(&format!("| {y} ")), "row {row}: {text}");
        }
        assert!(!text.contains(" 35 "), "{text}");
        assert_eq!(ledger.next(), 108);
        assert_eq!(ledger.cursors_at(108), [cursor(11), cursor(6)]);
        assert_eq!(ledger.cursors_at(100), [cursor(7), cursor(2)]);
        assert_eq!(table.source().report().rows(), 8);
    }

    #[tokio::test]
    async fn a_count_needs_no_column() {
        let context = context();
        context.register_table("t", Arc::new(table(vec![]))).unwrap();
        let rows = context.sql("SELECT 1 FROM t LIMIT 3").await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
}
