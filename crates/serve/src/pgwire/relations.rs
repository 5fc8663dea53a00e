//! `pg_catalog`'s tables where datafusion-pg-catalog's say less than clients ask for.
//!
//! `pg_class` and `pg_attribute` get columns that nothing here has a value for; `pg_tables` lists tables alone; and
//! `pg_views` lists the maintained views with their texts; `pg_settings` is what SHOW knows.

use super::local;
use crate::Platform;
use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Column;
use datafusion::datasource::{TableType, ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use datafusion::scalar::ScalarValue;
use std::fmt;
use std::sync::Arc;

/// The owner of everything, as datafusion-pg-catalog tells it.
pub(super) const OWNER: &str = "postgres";

/// The schema `pg_catalog` with what is added to it.
pub(super) struct Relations {
    inner: Arc<dyn SchemaProvider>,
    platform: Arc<dyn Platform>,
}

impl Relations {
    pub(super) fn new(inner: Arc<dyn SchemaProvider>, platform: Arc<dyn Platform>) -> Self {
        Self { inner, platform }
    }

    fn views(&self) -> Result<Arc<dyn TableProvider>> {
        let views = self.platform.views();
        let same = |text: &str| Arc::new(StringArray::from(vec![text; views.len()])) as ArrayRef;
        let each = |text: fn(&crate::ViewInfo) -> &str| {
            Arc::new(StringArray::from_iter_values(views.iter().map(text))) as ArrayRef
        };
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("schemaname", same("public"), true),
            ("viewname", each(|view| &view.name), true),
            ("viewowner", same(OWNER), true),
            ("definition", each(|view| &view.sql), true),
        ])?;
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }

    /// `pg_tables` without the views.
    fn tables(&self, inner: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
        let views: Vec<Expr> = self.platform.views().into_iter().map(|view| lit(view.name)).collect();
        let is_view = col("schemaname").eq(lit("public")).and(col("tablename").in_list(views, false));
        let plan = LogicalPlanBuilder::scan("pg_tables", provider_as_source(inner), None)?;
        Ok(Arc::new(ViewTable::new(plan.filter(is_view.is_not_true())?.build()?, None)))
    }
}

impl fmt::Debug for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pg_catalog")
    }
}

#[async_trait]
impl SchemaProvider for Relations {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if name.eq_ignore_ascii_case(USER_MAPPINGS) {
            return user_mappings().map(Some);
        }
        let Some(inner) = self.inner.table(name).await? else { return Ok(None) };
        let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        Ok(Some(match name.to_ascii_lowercase().as_str() {
            "pg_class" => with_nulls("pg_class", inner, &[("relacl", texts.clone()), ("reloptions", texts)])?,
            "pg_attribute" => with_nulls("pg_attribute", inner, &[("attacl", texts.clone()), ("attoptions", texts)])?,
            "pg_collation" => with_nulls("pg_collation", inner, &[("colliculocale", DataType::Utf8)])?,
            "pg_views" => self.views()?,
            "pg_tables" => self.tables(inner)?,
            "pg_settings" => settings(&inner.schema())?,
            _ => inner,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(USER_MAPPINGS) || self.inner.table_exist(name)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.inner.table_type(name).await
    }
}

/// Users on other servers, of which there are none.
const USER_MAPPINGS: &str = "pg_user_mappings";

fn user_mappings() -> Result<Arc<dyn TableProvider>> {
    let numbers = ["umid", "srvid", "umuser"].map(|name| Field::new(name, DataType::Int32, true));
    let texts = ["srvname", "usename"].map(|name| Field::new(name, DataType::Utf8, true));
    let options = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let fields = numbers.into_iter().chain(texts).chain([Field::new("umoptions", options, true)]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(Arc::new(MemTable::try_new(schema.clone(), vec![vec![RecordBatch::new_empty(schema)]])?))
}

/// `pg_settings` with what a connection starts with.
fn settings(schema: &Schema) -> Result<Arc<dyn TableProvider>> {
    let (names, values): (Vec<&str>, Vec<&str>) = local::start_values().unzip();
    let start = Arc::new(Field::new("boot_val", DataType::Utf8, true));
    let has_start = schema.field_with_name(start.name()).is_ok();
    let fields: Vec<&Arc<Field>> = schema.fields().iter().chain((!has_start).then_some(&start)).collect();
    let column = |field: &&Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "name" => Arc::new(StringArray::from(names.clone())),
            "setting" | "reset_val" | "boot_val" => Arc::new(StringArray::from(values.clone())),
            _ => new_null_array(field.data_type(), names.len()),
        }
    };
    let columns: Vec<ArrayRef> = fields.iter().map(column).collect();
    let named = fields.iter().map(|field| field.name().as_str()).zip(columns);
    let batch = RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// A table with further columns without values, where it has no column of that name.
fn with_nulls(
    name: &str,
    inner: Arc<dyn TableProvider>,
    columns: &[(&str, DataType)],
) -> Result<Arc<dyn TableProvider>> {
    let schema = inner.schema();
    let own = schema.fields().iter().map(|field| Expr::Column(Column::from_name(field.name())));
    let mut all: Vec<Expr> = own.collect();
    for (column, data_type) in columns {
        if schema.field_with_name(column).is_err() {
            let null = ScalarValue::try_from(data_type)?;
            all.push(lit(null).alias(*column));
        }
    }
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(inner), None)?.project(all)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
