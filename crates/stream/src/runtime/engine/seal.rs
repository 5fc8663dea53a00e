//! The end of an epoch: what is kept of it, and the manifest that decides.

use super::{Engine, net};
use crate::checkpoint::{Manifest, ObjectRecord, RunBuilder, RunRecord, encode_staged, read_newest};
use crate::error::Result;
use rivermere_base::Epoch;

impl Engine {
    /// Seals an epoch: runs and staged output first, then the manifest that decides, then what follows from it.
    pub(super) fn seal(&mut self) -> Result<Epoch> {
        if !self.changed {
            return Ok(self.manifest.epoch);
        }
        let epoch = self.manifest.epoch.next();
        let mut manifest = Manifest { epoch, written_ms: self.doors.clock.now_ms(), ..self.manifest.clone() };
        let mut run = RunBuilder::new();
        self.dataflow.checkpoint(|node, key, value| run.add(node, key, value))?;
        if let Some(data) = run.finish()? {
            let file = format!("{:020}.run", epoch.0);
            self.files.write_run(&file, &data)?;
            manifest.runs.push(RunRecord { file, bytes: data.len() as u64 });
        }
        self.merge_runs(&mut manifest)?;
        for (view, changes) in std::mem::take(&mut self.staging) {
            let Some(definition) = self.views.get(&view).map(|view| view.definition.clone()) else { continue };
            let net = net(&definition, changes)?;
            if net.iter().any(|changes| !changes.is_empty()) {
                self.files.write_staged(&view, epoch, &encode_staged(&definition.plan.schema, &net)?)?;
                if let Some(sink) = self.sinks.get_mut(&view) {
                    sink.staged.push(epoch);
                }
            }
        }
        manifest.positions = self
            .tables
            .iter()
            .filter_map(|(name, table)| Some((name.clone(), table.reader.as_ref()?.positions().to_vec())))
            .collect();
        manifest.lakes = self.followed.iter().map(|(name, reader)| (name.clone(), reader.position().clone())).collect();
        manifest.objects = self.objects();
        manifest.sinks = self.sinks.values().cloned().collect();
        manifest.dead_letters = std::mem::take(&mut self.dead);
        self.files.put_manifest(&manifest)?;
        self.previous = Some(std::mem::replace(&mut self.manifest, manifest));
        self.hold_lakes();
        self.changed = false;
        for (view, sink) in &self.sinks {
            if sink.staged.last() == Some(&epoch) {
                self.committer.staged(view, epoch, self.files.staged_path(view, epoch));
            }
        }
        self.publish_dead_letters()?;
        self.files.clean(&self.manifest, self.previous.as_ref())?;
        Ok(epoch)
    }

    pub(super) fn objects(&self) -> Vec<ObjectRecord> {
        let tables = self.tables.values().map(|table| ObjectRecord {
            name: table.definition.name.clone(),
            kind: "table".into(),
            text: table.definition.text.clone(),
            fingerprint: None,
            ad_hoc: table.ad_hoc,
            columns: None,
        });
        let views = self.views.values().map(|view| ObjectRecord {
            name: view.definition.name.clone(),
            kind: "view".into(),
            text: view.definition.text.clone(),
            fingerprint: Some(view.definition.plan.fingerprint.clone()),
            ad_hoc: view.ad_hoc,
            columns: None,
        });
        let externals = self.externals.values().map(|(external, ad_hoc)| ObjectRecord {
            name: external.name.clone(),
            kind: "external".into(),
            text: external.text.clone(),
            fingerprint: None,
            ad_hoc: *ad_hoc,
            columns: external.columns.as_deref().and_then(ObjectRecord::keep_columns),
        });
        tables.chain(externals).chain(views).collect()
    }

    /// Puts the newest runs of like size into one, so that a restart reads few files and each entry is written a
    /// logarithmic number of times.
    fn merge_runs(&mut self, manifest: &mut Manifest) -> Result<()> {
        let class = |bytes: u64| bytes.max(1).ilog2() / 3;
        let Some(last) = manifest.runs.last() else { return Ok(()) };
        let newest = class(last.bytes);
        let like = manifest.runs.iter().rev().take_while(|run| class(run.bytes) <= newest).count();
        if like < self.options.merge_runs {
            return Ok(());
        }
        let merged = manifest.runs.split_off(manifest.runs.len() - like);
        let oldest = manifest.runs.is_empty();
        let mut run = RunBuilder::new();
        read_newest(
            &merged,
            |file| self.files.read_run(file),
            |node, key, value| {
                // With nothing older, a removal has nothing to remove.
                if value.is_some() || !oldest {
                    run.add(node, key, value);
                }
                Ok(())
            },
        )?;
        if let Some(data) = run.finish()? {
            let file = format!("{:020}-{like}.run", manifest.epoch.0);
            self.files.write_run(&file, &data)?;
            manifest.runs.push(RunRecord { file, bytes: data.len() as u64 });
        }
        Ok(())
    }
}
