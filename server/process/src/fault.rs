//! Which side is at fault, between daemons and towards their users.

use suf_control::v1;
use suf_wire::Fault;

/// `fault` as the control API says it.
#[must_use]
pub fn at_fault(fault: Fault) -> v1::Fault {
    match fault {
        Fault::Peer => v1::Fault::Peer,
        Fault::Dealer => v1::Fault::Dealer,
        Fault::Device => v1::Fault::Device,
        Fault::Config => v1::Fault::Config,
        Fault::Caller => v1::Fault::Caller,
        Fault::Bug => v1::Fault::Bug,
    }
}
