//! Options that say how a tensor's file is read.

use std::{path::Path, sync::Arc};

use crate::{
    error::Error,
    npy::{self, Array, Reading},
    out,
    tensor::integers,
};

/// How the file of `--inputs` is read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TensorArgs {
    /// Take integers as fixed point with 12 fractional bits: 4096 is 1.0. An output is fixed point, too.
    #[arg(long, requires = "inputs")]
    fixed: bool,
    /// Type of values that the file does not name: bfloat16, if they are two bytes without a type, as ml_dtypes saves it.
    #[arg(long, requires = "inputs", value_name = "TYPE", value_parser = ["bfloat16"])]
    dtype: Option<String>,
}

impl TensorArgs {
    /// Reads the tensor at `path`, and says on standard error how its integers are taken if the command line does not.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or holds what is not accepted.
    pub(crate) fn read(&self, path: &Path) -> Result<Arc<Array<'static>>, Error> {
        let name = npy::name(path);
        let reading = Reading { bfloat16: self.dtype.is_some() };
        let array = npy::read(path, reading).map_err(|error| Error::usage(format!("{name}: {error}")))?;
        if let Some(line) = integers(array.form(), self.fixed, &name)? {
            out::note(line);
        }
        Ok(Arc::new(array))
    }
}
