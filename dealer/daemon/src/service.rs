//! The control API of the dealer.

use std::{sync::Arc, time::Instant};

use suf_control::v1;
use suf_link::Identity;
use suf_process::LoadedModel;
use tonic::{Request, Response, Status};

use crate::Dealer;

/// Batches of a reply that asks for no number.
const DEFAULT_BATCHES: u32 = 100;

/// Most batches of a reply, as the API says.
const MOST_BATCHES: u32 = 1000;

/// The service over a dealer.
#[derive(Clone, Debug)]
pub struct DealerService {
    dealer: Arc<Dealer>,
    started: Instant,
    identity: Identity,
}

impl DealerService {
    /// A service for `dealer`, which shows `identity`.
    #[must_use]
    pub fn new(dealer: Arc<Dealer>, identity: Identity) -> Self {
        Self { dealer, started: Instant::now(), identity }
    }
}

#[tonic::async_trait]
impl v1::dealer_server::Dealer for DealerService {
    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::DealerInfo>, Status> {
        let totals = self.dealer.records().totals();
        let backend = self.dealer.backend().info();
        Ok(Response::new(v1::DealerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            wire_version: suf_wire::VERSION.into(),
            backend: backend.name.into(),
            hardware: backend.device,
            uptime_s: self.started.elapsed().as_secs_f64(),
            batches_dealt: totals.batches_dealt,
            elements_dealt: totals.elements_dealt,
            bytes_shipped: totals.bytes_shipped,
            active_batches: totals.active_batches,
            certificate_expires_unix_s: self.identity.expires_unix_s(),
            models: self.dealer.models().map(LoadedModel::message).collect(),
        }))
    }

    async fn list_batches(
        &self,
        request: Request<v1::ListBatchesRequest>,
    ) -> Result<Response<v1::ListBatchesReply>, Status> {
        let limit = match request.get_ref().limit {
            0 => DEFAULT_BATCHES,
            limit => limit.min(MOST_BATCHES),
        };
        Ok(Response::new(v1::ListBatchesReply { batches: self.dealer.records().list(limit as usize) }))
    }
}
