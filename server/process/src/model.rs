//! Models that a configuration names: their folders on the disk, and the weights that programs of them name.

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;
use suf_control::v1;
use suf_gate::{Program, WeightStore, ops::Op};
use suf_model::{
    Folder, Plan,
    bert::{self, Config, Quantised},
    builtin,
    folder::too_large,
    plan::{self, hex},
};

/// Largest plan that is read.
const MOST_PLAN_BYTES: u64 = suf_toml::MAX_FILE_BYTES as u64;

/// A folder.
#[derive(Clone, Debug)]
pub struct ModelFolder(PathBuf);

/// An entry of `[[models]]` in a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// The model's folder.
    dir: PathBuf,
    /// The plan; without it that of the folder, or one that is part of the program.
    plan: Option<PathBuf>,
}

/// A model that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedModel {
    /// The name of its folder.
    pub name: String,
    /// The digest of its integers.
    pub digest: [u8; 32],
    /// Bytes of its weights in memory.
    pub bytes: u64,
    /// The digests of the matrices that its programs name.
    matrices: Arc<HashSet<[u8; 32]>>,
}

impl ModelEntry {
    /// Takes relative paths from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        self.dir = folder.join(&self.dir);
        self.plan = self.plan.take().map(|plan| folder.join(plan));
    }

    /// Adds the weights of the model to `store`.
    ///
    /// # Errors
    /// When there is no such model, or no plan for it, in words.
    pub fn load(&self, store: &mut WeightStore) -> Result<LoadedModel, String> {
        let place = self.dir.display();
        let wrong = |problem: String| format!("the model {place}: {problem}");
        let folder = ModelFolder::open(&self.dir)?;
        let (config, integers) = Quantised::load(&folder).map_err(|error| wrong(error.to_string()))?;
        let plan = folder.plan(self.plan.as_deref(), &config, &integers)?;
        let (plan, source) = plan.ok_or_else(|| {
            wrong(format!(
                "there is no plan for the model {}: make one with `suf model calibrate`, and name it by `plan`",
                hex(integers.digest())
            ))
        })?;
        let weights = bert::weights(&config, &integers, &plan).map_err(|error| wrong(error.to_string()))?;
        let bytes = weights.iter().map(|weights| weights.bytes() as u64).sum();
        let matrices = weights.iter().map(|weights| *weights.digest()).collect();
        weights.into_iter().for_each(|weights| store.add(weights));
        let name = self.dir.file_name().unwrap_or(self.dir.as_os_str()).to_string_lossy().into_owned();
        let digest = *integers.digest();
        tracing::info!(name, digest = %hex(&digest), bytes, plan = source, "model loaded");
        Ok(LoadedModel { name, digest, bytes, matrices: Arc::new(matrices) })
    }
}

impl LoadedModel {
    /// Whether `program` names a matrix of this model.
    #[must_use]
    pub fn has(&self, program: &Program) -> bool {
        program.nodes().any(|(_, node)| match node.op() {
            Op::Linear(op) => self.matrices.contains(op.weights().digest()),
            Op::Gain(op) => self.matrices.contains(op.weights().digest()),
            _ => false,
        })
    }

    /// The model, as the control API tells of it.
    #[must_use]
    pub fn message(&self) -> v1::Model {
        let Self { name, digest, bytes, .. } = self;
        v1::Model { name: name.clone(), digest: Bytes::copy_from_slice(digest), bytes: *bytes }
    }
}

/// Models by name and digest, for people.
#[must_use]
pub fn listed<'a>(models: impl Iterator<Item = &'a LoadedModel>) -> String {
    let all: Vec<_> = models.map(ToString::to_string).collect();
    if all.is_empty() { "no model".to_owned() } else { all.join(", ") }
}

impl fmt::Display for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, hex(&self.digest))
    }
}

impl ModelFolder {
    /// The folder at `path`.
    ///
    /// # Errors
    /// When there is none, in words.
    pub fn open(path: &Path) -> Result<Self, String> {
        match path.metadata() {
            Ok(found) if found.is_dir() => Ok(Self(path.to_owned())),
            Ok(_) => Err(format!("{} is a file; name the folder of a model", path.display())),
            Err(error) => Err(format!("there is no folder {}: {error}", path.display())),
        }
    }

    /// The plan at `path`; without one, that of the folder, or one that is part of the program. Also where it comes from. None if
    /// there is none of them.
    ///
    /// # Errors
    /// When a file cannot be read, is not right, or belongs to another model, in words.
    pub fn plan(
        &self,
        path: Option<&Path>,
        config: &Config,
        integers: &Quantised,
    ) -> Result<Option<(Plan, String)>, String> {
        let Some((plan, name)) = self.plan_file(path)? else {
            let found = builtin::plan(integers.digest());
            return Ok(found.map(|plan| (plan, "part of this program".to_owned())));
        };
        let (layers, heads) = (config.layers as usize, config.heads as usize);
        plan.suits(integers.digest(), layers, heads).map_err(|error| format!("{name}: {error}"))?;
        Ok(Some((plan, name)))
    }

    /// The plan at `path`; without one, that of the folder. It may be of any model. Also where it comes from. None if there is none.
    ///
    /// # Errors
    /// When a file cannot be read, or is not right, in words.
    pub fn plan_file(&self, path: Option<&Path>) -> Result<Option<(Plan, String)>, String> {
        let beside = self.0.join(plan::FILE);
        let Some(path) = path.or_else(|| beside.exists().then_some(beside.as_path())) else {
            return Ok(None);
        };
        let name = path.display();
        let bytes =
            read(path, MOST_PLAN_BYTES).and_then(|bytes| bytes.ok_or_else(|| "there is no such file".into()));
        let bytes = bytes.map_err(|problem| format!("cannot read the plan {name}: {problem}"))?;
        let wrong = |mistake| format!("the plan {name} is wrong in {mistake}");
        let plan = suf_toml::text(&bytes).and_then(Plan::parse).map_err(wrong)?;
        Ok(Some((plan, name.to_string())))
    }
}

impl Folder for ModelFolder {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        read(&self.0.join(path), most)
    }
}

/// The bytes of a file; none if there is no such file. Its size is looked at first.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".into());
    }
    if found.len() > most {
        return Err(too_large(found.len(), most));
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    // A file that grows meanwhile is cut at its length.
    let read = Read::by_ref(&mut file).take(found.len()).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_under_their_limit() {
        let disk = tempfile::tempdir().expect("a folder");
        fs::write(disk.path().join("a"), [7; 9]).expect("a file");
        fs::create_dir(disk.path().join("b")).expect("a folder");
        let folder = ModelFolder::open(disk.path()).expect("it is there");
        assert_eq!(folder.read("a", 9), Ok(Some(vec![7; 9])));
        assert_eq!(folder.read("none", 9), Ok(None));
        assert_eq!(folder.read("a", 8), Err("it has 9 bytes, and at most 8 are read".into()));
        assert_eq!(folder.read("b", 9), Err("it is no file".into()));
        assert!(ModelFolder::open(&disk.path().join("a")).is_err_and(|error| error.contains("is a file")));
        let missing = ModelFolder::open(&disk.path().join("c")).expect_err("it is not there");
        assert!(missing.contains("there is no folder"), "{missing}");
    }
}
