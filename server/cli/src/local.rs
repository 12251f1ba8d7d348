//! Work on a dealer and two parties that live for it alone.

use crate::{
    cluster::{Cluster, Placement, Setup},
    error::Error,
};

impl Setup {
    /// On this machine's loopback interface, unshaped, without a model.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            link: "loopback".into(),
            shaped: false,
            backend: "auto".into(),
            placement: Placement::Loopback,
            model: None,
            checked: false,
        }
    }
}

impl Cluster {
    /// Starts the three processes, carries out `work` on them, and ends them.
    ///
    /// # Errors
    /// When one does not start, or the error of `work`; if a process has died, with the end of its log.
    pub(crate) async fn within<T>(
        setup: &Setup,
        work: impl AsyncFnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut cluster = Self::start(setup)?;
        let result = work(&cluster).await;
        let result = result.map_err(|error| cluster.explain(error));
        cluster.stop().await;
        result
    }
}
