//! Tables of the lake that views read: their inputs, their readers, and their rows for new views.

use super::Engine;
use crate::compile::{needed_columns, table_input_schema};
use crate::error::{Result, StreamError};
use crate::source::{LakePosition, LakeReader, Lakes};
use rivermere_sql::{ExternalTable, ViewDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Engine {
    /// Inputs for the tables of the lake that views read, where there are none yet.
    pub(super) fn add_lakes(&mut self, views: &[Arc<ViewDefinition>]) {
        for (name, columns) in needed_columns(views) {
            if let Some((external, _)) = self.externals.get(&name)
                && let Some(schema) = &external.columns
                && self.dataflow.relation_schema(&name).is_none()
            {
                self.dataflow.add_table(&name, table_input_schema(schema, &columns));
            }
        }
    }

    /// Reads on in a table of the lake, from what a position says has been taken.
    pub(super) fn follow(&mut self, name: &str, position: LakePosition, rows: u64) -> Result<()> {
        let (Some((external, _)), Some(schema)) = (self.externals.get(name), self.dataflow.relation_schema(name))
        else {
            return Ok(());
        };
        let reader = LakeReader::follow(self.lakes()?, external.clone(), schema, position, rows)?;
        self.followed.insert(name.to_string(), reader);
        Ok(())
    }

    /// The versions that a start may read on from: nobody may clean up their files.
    pub(super) fn hold_lakes(&self) {
        let Some(lakes) = &self.lakes else { return };
        let manifests = std::iter::once(&self.manifest).chain(&self.previous);
        let positions = manifests.flat_map(|manifest| &manifest.lakes).filter_map(|(name, position)| {
            let (external, _) = self.externals.get(name)?;
            Some((external.place.location.clone(), position.version))
        });
        lakes.seal(positions.collect());
    }

    fn lakes(&self) -> Result<&Lakes> {
        self.lakes.as_ref().ok_or_else(|| StreamError::Stopped("it was given no way to read tables of the lake".into()))
    }

    /// The rows of a table of the lake into new views: those that older views have seen, or all of them.
    pub(super) fn load_lake(&mut self, table: &Arc<ExternalTable>, views: &BTreeSet<String>) -> Result<()> {
        let Some(schema) = self.dataflow.relation_schema(&table.name) else { return Ok(()) };
        let (lakes, at) =
            (self.lakes()?.clone(), self.followed.get(&table.name).map(|reader| reader.position().clone()));
        let is_new = at.is_none();
        let mut rows = 0;
        let position = LakeReader::load(&lakes, table, schema, at, |changes| {
            rows += changes.num_rows() as u64;
            let inputs = BTreeMap::from([(table.name.clone(), vec![changes])]);
            let output = self.dataflow.bootstrap(inputs, &BTreeMap::new(), views, false)?;
            self.take(output);
            Ok(())
        })?;
        if is_new { self.follow(&table.name, position, rows) } else { Ok(()) }
    }
}
