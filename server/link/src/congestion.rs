//! A congestion rule for private links of known rate: no pacing, a window that never shrinks.
//!
//! quinn-proto switches its pacer off for windows above `u32::MAX`, an internal rule of it that a test here holds. The
//! bytes in flight are then bounded by the send window alone, which must not exceed the bandwidth-delay product and the
//! bottleneck's queue together. Off by default: on a shared network it is unfair to everybody else.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

/// The least window for which quinn-proto does not pace.
pub(crate) const UNPACED_WINDOW: u64 = u32::MAX as u64 + 1;

/// Builds [`Unpaced`].
#[derive(Debug)]
pub(crate) struct UnpacedFactory;

impl ControllerFactory for UnpacedFactory {
    fn build(self: Arc<Self>, _now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(Unpaced)
    }
}

#[derive(Debug, Clone)]
struct Unpaced;

impl Controller for Unpaced {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost_bytes: u64) {}

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        UNPACED_WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        UNPACED_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
