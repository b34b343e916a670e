//! Plans statements: the plans are DataFusion's, but named models are loaded first, files are found
//! by their paths, and `SELECT *` of wide tables is planned without the list of its columns.

use std::sync::Arc;

use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::{
    CopyToSource, CopyToStatement, CreateExternalTable, Statement as DfStatement,
};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Statement as SqlStatement};
use gradlake_engine::{ENDINGS, EventSink};

use crate::session::Session;
use crate::statements::Source;
use crate::wildcard::{with_all_columns, without_wildcard};
use crate::{parsers, sentence};

impl Session {
    /// The plan of the rows that a Gradlake statement takes.
    pub(crate) async fn plan(&self, source: &Source, events: &EventSink) -> Result<LogicalPlan> {
        let plan = self.logical_plan(source.statement()?, events).await;
        match (source, plan) {
            // To DataFusion, a text that is not a file is the name of a table.
            (Source::File(path), Err(error))
                if sentence(&error).ends_with(&format!("{path}' not found")) =>
            {
                plan_err!("there is no file or table {path}; files end with {ENDINGS}")
            }
            (_, plan) => plan,
        }
    }

    /// Plans a DataFusion statement; the models that it names are loaded and pinned.
    pub(crate) async fn logical_plan(
        &self,
        statement: DfStatement,
        events: &EventSink,
    ) -> Result<LogicalPlan> {
        self.pinned.tell(events);
        for model in parsers::models_of_statement(&statement)? {
            let scorer = self.engine.scorer(&model.name, model.version).await?;
            if model.version.is_none() {
                self.engine.pin(&model.name, Arc::clone(&scorer));
            }
            self.pinned.pin(model, scorer);
        }
        match statement {
            DfStatement::CreateExternalTable(create) => self.created_table(create).await,
            DfStatement::CopyTo(copy) if copy.partitioned_by.is_empty() => {
                self.copy_plan(copy).await
            }
            DfStatement::Statement(statement) => match *statement {
                SqlStatement::Query(query) => self.query_plan(query).await,
                other => self.statement_plan(DfStatement::Statement(Box::new(other))).await,
            },
            statement => self.statement_plan(statement).await,
        }
    }

    async fn statement_plan(&self, statement: DfStatement) -> Result<LogicalPlan> {
        self.declaring(&statement).statement_to_plan(statement).await
    }

    /// Plans a query; `SELECT *` is planned without the list of its columns.
    async fn query_plan(&self, query: Box<Query>) -> Result<LogicalPlan> {
        let plan = |query: Query| {
            let statement = SqlStatement::Query(Box::new(query));
            self.statement_plan(DfStatement::Statement(Box::new(statement)))
        };
        match without_wildcard(&query) {
            Some(query) => with_all_columns(plan(query).await?),
            None => plan(*query).await,
        }
    }

    /// Plans COPY, whose query may be a `SELECT *` too.
    async fn copy_plan(&self, mut copy: CopyToStatement) -> Result<LogicalPlan> {
        let all = match &copy.source {
            CopyToSource::Query(query) => without_wildcard(query),
            CopyToSource::Relation(_) => None,
        };
        let Some(query) = all else { return self.statement_plan(DfStatement::CopyTo(copy)).await };
        copy.source = CopyToSource::Query(Box::new(query));
        match self.statement_plan(DfStatement::CopyTo(copy)).await? {
            LogicalPlan::Copy(copy) => {
                let input = with_all_columns(Arc::unwrap_or_clone(copy.input))?;
                Ok(LogicalPlan::Copy(CopyTo::new(
                    Arc::new(input),
                    copy.output_url,
                    copy.partition_by,
                    copy.file_type,
                    copy.options,
                )))
            }
            other => internal_err!("COPY is planned as {}", other.display()),
        }
    }

    /// The state that plans a statement. If the statement declares columns, a type WITH TIME ZONE
    /// has a zone: UTC, unless the session has one. (In DataFusion it has no zone unless the
    /// session has one.)
    fn declaring(&self, statement: &DfStatement) -> SessionState {
        let mut state = self.engine.context().state();
        let declares = match statement {
            DfStatement::CreateExternalTable(_) => true,
            DfStatement::Statement(statement) => {
                matches!(&**statement, SqlStatement::CreateTable(create) if create.query.is_none())
            }
            _ => false,
        };
        let zone = &mut state.config_mut().options_mut().execution.time_zone;
        if declares && zone.is_none() {
            *zone = Some("UTC".to_owned());
        }
        state
    }

    /// Plans CREATE EXTERNAL TABLE. Planning looks for every table that a statement names, and
    /// finds files by their paths too: a FIFO or folder with the name of its table would be opened,
    /// and what a producer has written to the FIFO would be lost. So the table has another name
    /// during planning.
    async fn created_table(&self, mut create: CreateExternalTable) -> Result<LogicalPlan> {
        let definition = create.to_string();
        // No path contains a zero byte.
        let other = ObjectName::from(vec![Ident::with_quote('"', "\0")]);
        let name = std::mem::replace(&mut create.name, other);
        let statement = DfStatement::CreateExternalTable(create);
        let state = self.declaring(&statement);
        let folds = state.config_options().sql_parser.enable_ident_normalization;
        let plan = state.statement_to_plan(statement).await?;
        let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut plan)) = plan else {
            return internal_err!("CREATE EXTERNAL TABLE has another plan");
        };
        plan.name = object_name_to_table_reference(name, folds)?;
        plan.definition = Some(definition);
        Ok(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(plan)))
    }
}
