//! The catalog `model`: every model a schema, its tables read from the store.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, MemTable, SchemaProvider, Session as CatalogSession, TableProvider,
};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::ExecutionPlan;

use crate::names::suggestion;
use crate::options::nearest;
use crate::store::{ModelStore, ModelTable};

/// Name of the catalog in SQL.
pub const MODEL_CATALOG: &str = "model";

/// The catalog of models. Names are listed from memory (listing is synchronous in DataFusion) and
/// refreshed before each statement; tables are read from the store when a plan names them.
pub struct ModelCatalog {
    store: ModelStore,
    names: RwLock<Vec<String>>,
}

impl fmt::Debug for ModelCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCatalog").finish_non_exhaustive()
    }
}

impl ModelCatalog {
    /// The catalog of a store.
    pub fn new(store: ModelStore) -> Self {
        Self { store, names: RwLock::default() }
    }

    /// Replaces the names that are listed.
    pub fn set_names(&self, names: Vec<String>) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }
}

impl CatalogProvider for ModelCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(ModelSchema { store: self.store.clone(), name: name.to_owned() }))
    }
}

/// A table that refuses inserts.
#[derive(Debug)]
struct ReadOnly(MemTable);

#[async_trait]
impl TableProvider for ReadOnly {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        _: &dyn CatalogSession,
        _: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("the tables of models are read-only; TRAIN makes them")
    }
}

/// The tables of one model.
struct ModelSchema {
    store: ModelStore,
    name: String,
}

impl fmt::Debug for ModelSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelSchema").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for ModelSchema {
    fn table_names(&self) -> Vec<String> {
        ModelTable::all().map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = ModelTable::all().find(|table| table.name() == name) else {
            let own = self.store.tables(&self.name).await?;
            let names = own.iter().map(|table| table.name());
            return plan_err!(
                "model {} has no table {name}{}; it has {}",
                self.name,
                suggestion(nearest(name, names.clone())),
                names.collect::<Vec<_>>().join(", ")
            );
        };
        let Some(batch) = self.store.table_if_any(&self.name, table).await? else {
            return Ok(None);
        };
        let rows = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        Ok(Some(Arc::new(ReadOnly(rows))))
    }

    fn table_exist(&self, name: &str) -> bool {
        ModelTable::all().any(|table| table.name() == name)
    }
}
