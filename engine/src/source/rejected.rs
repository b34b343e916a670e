//! `rejected('table')`: lists what arrived for an unbounded table and is not a row of it.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{MemTable, Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::{Report, SourceTable};

/// Its name in SQL.
const NAME: &str = "rejected";

/// The function under its name. It takes the name of an unbounded table and gives, in the order of
/// arrival, the first 100 lines, producers and files that could not be read since the table was
/// created: `at`, `source`, `line` (its number) and `text` (its beginning) where it is a line,
/// `error`, and in every row `total`, how many there were.
pub fn rejected_function() -> (&'static str, Arc<dyn TableFunctionImpl>) {
    (NAME, Arc::new(RejectedFunction))
}

#[derive(Debug)]
struct RejectedFunction;

impl TableFunctionImpl for RejectedFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        match args.exprs() {
            [
                Expr::Literal(
                    ScalarValue::Utf8(Some(name))
                    | ScalarValue::Utf8View(Some(name))
                    | ScalarValue::LargeUtf8(Some(name)),
                    _,
                ),
            ] => Ok(Arc::new(RejectedTable { name: name.clone(), schema: schema() })),
            other => {
                let given: Vec<_> = other.iter().map(ToString::to_string).collect();
                plan_err!(
                    "{NAME} takes the name of an unbounded table as a string, such as \
                     {NAME}('clicks'), found {}",
                    if given.is_empty() { "nothing".to_owned() } else { given.join(", ") }
                )
            }
        }
    }
}

fn schema() -> SchemaRef {
    let at = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("at", at, false),
        Field::new("source", DataType::Utf8, false),
        Field::new("line", DataType::UInt64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new("total", DataType::UInt64, false),
    ]))
}

/// The rejected lines, producers and files of one table, as they are when a query begins to run.
#[derive(Debug)]
struct RejectedTable {
    name: String,
    schema: SchemaRef,
}

impl RejectedTable {
    async fn report(&self, state: &dyn Session) -> Result<Arc<Report>> {
        let catalog = &state.config_options().catalog;
        let table = TableReference::parse_str(&self.name)
            .resolve(&catalog.default_catalog, &catalog.default_schema);
        let schema =
            state.catalog_list().catalog(&table.catalog).and_then(|c| c.schema(&table.schema));
        let provider = match schema {
            Some(schema) => schema.table(&table.table).await?,
            None => None,
        };
        let Some(provider) = provider else {
            return plan_err!("there is no table {}, of which {NAME} could tell", self.name);
        };
        match (provider.as_ref() as &dyn Any).downcast_ref::<SourceTable>() {
            Some(table) => Ok(table.source().report()),
            None => plan_err!(
                "{} is no unbounded table; {NAME} takes one that CREATE UNBOUNDED EXTERNAL TABLE \
                 made",
                self.name
            ),
        }
    }

    fn rows(&self, report: &Report) -> Result<RecordBatch> {
        let (first, total) = (report.first_rejected(), report.rejected());
        let at: TimestampMillisecondArray = first.iter().map(|r| Some(r.at)).collect();
        Ok(RecordBatch::try_new(
            Arc::clone(&self.schema),
            vec![
                Arc::new(at.with_timezone("UTC")),
                Arc::new(StringArray::from_iter_values(first.iter().map(|r| &r.producer))),
                Arc::new(first.iter().map(|r| r.number).collect::<UInt64Array>()),
                Arc::new(first.iter().map(|r| r.line.as_deref()).collect::<StringArray>()),
                Arc::new(StringArray::from_iter_values(first.iter().map(|r| &r.reason))),
                Arc::new(UInt64Array::from_value(total, first.len())),
            ],
        )?)
    }
}

#[async_trait]
impl TableProvider for RejectedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.rows(self.report(state).await?.as_ref())?;
        let table = MemTable::try_new(Arc::clone(&self.schema), vec![vec![rows]])?;
        table.scan(state, projection, filters, limit).await
    }
}
