//! Sources of the kernels' code. NVRTC compiles any gate for the present GPU. Where it is missing, the driver compiles the
//! embedded PTX of the built-in gates.

use std::ffi::CString;

use suf_gate::BackendError;

use crate::{
    nvrtc::{self, Compiler},
    ptx,
};

/// What a driver loads.
#[derive(Debug)]
pub(crate) enum Image {
    /// Machine code of one GPU.
    Cubin(Vec<u8>),
    /// A text that the driver compiles.
    Ptx(CString),
}

/// What makes images of sources.
pub(crate) enum ImageSource {
    /// The compiler.
    Nvrtc(Compiler),
    /// The embedded PTX.
    Embedded,
}

impl ImageSource {
    /// The compiler where there is one.
    pub(crate) fn find() -> Self {
        match Compiler::find() {
            Ok(compiler) => Self::Nvrtc(compiler),
            Err(error) => {
                let reason = match error {
                    BackendError::Unavailable(reason) => reason,
                    other => other.to_string(),
                };
                tracing::warn!(reason, "built-in gates run from embedded PTX, other gates not on the GPU");
                Self::Embedded
            }
        }
    }

    /// The image of `source` for compute capability `sm`.
    pub(crate) fn image(&self, source: &str, sm: u32) -> Result<Image, BackendError> {
        match self {
            Self::Nvrtc(compiler) => Ok(Image::Cubin(compiler.cached(source, sm)?)),
            Self::Embedded if sm < ptx::SM => Err(BackendError::Unavailable(format!(
                "a GPU of compute capability {} needs the kernels' compiler, the embedded PTX is for {} and later; {}",
                capability(sm),
                capability(ptx::SM),
                nvrtc::install()
            ))),
            Self::Embedded => ptx::find(source)?.map(Image::Ptx).ok_or_else(|| {
                BackendError::Unavailable(format!(
                    "gates that are not built in need the kernels' compiler, NVRTC (libnvrtc.so.13 or .12); {}",
                    nvrtc::install()
                ))
            }),
        }
    }
}

fn capability(sm: u32) -> String {
    format!("{}.{}", sm / 10, sm % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::base_source;

    #[test]
    fn what_is_not_embedded_needs_the_compiler() {
        let base = base_source();
        assert!(matches!(ImageSource::Embedded.image(base.text(), 90), Ok(Image::Ptx(_))));
        for (source, sm, why) in [
            (format!("{}\n", base.text()), 90, "gates that are not built in need the kernels' compiler"),
            (base.text().to_owned(), 75, "compute capability 7.5"),
        ] {
            let error = ImageSource::Embedded.image(&source, sm).expect_err("it is not embedded");
            assert!(matches!(&error, BackendError::Unavailable(text) if text.contains(why)), "{error}");
            assert!(error.to_string().contains("pip install nvidia-cuda-nvrtc"), "{error}");
        }
    }
}
