//! Who may call what. The role comes from the caller's certificate. The table below is the whole policy, and it
//! is enforced before all handlers. A new method is closed until it has a row here.
//!
//! Operators watch and end runs, and touch no tensor: an operator of both hosts who could fetch both output shares would
//! know the output. Clients own tensors and runs. Owners of models own loads, and the runs that make them; which programs a role
//! may start is the party's rule. Whose run is whose is not a matter of roles: each party decides it from the
//! caller's certificate.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls_pki_types::CertificateDer;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{failure::CallFailure, server::Peer, under_way, v1::Fault};

/// Roles as they are written in certificates.
pub const ROLES: [&str; 7] = ["dealer", "party0", "party1", "operator", "client", "observer", "model"];

/// Reads the role from a certificate that the TLS layer has verified, or says why there is none.
pub type RoleOf = Arc<dyn Fn(&CertificateDer<'_>) -> Result<String, String> + Send + Sync>;

/// Waits until a certificate is not accepted any more, and says why. It hears of what changes from the call of this function on.
pub type Withdrawn = Arc<dyn Fn(&CertificateDer<'static>) -> Withdrawal + Send + Sync>;

/// What [`Withdrawn`] waits with.
pub type Withdrawal = Pin<Box<dyn Future<Output = String> + Send>>;

/// What is known of the callers' certificates.
#[derive(Clone)]
pub struct Callers {
    /// Asked with each call.
    pub role_of: RoleOf,
    /// Asked while a call is under way.
    pub withdrawn: Withdrawn,
}

const EVERYONE: &[&str] = &ROLES;
const CONTROL: &[&str] = &["operator", "client", "model"];
const OWNERS: &[&str] = &["client", "model"];
const CLIENT: &[&str] = &["client"];
const READ: &[&str] = &["operator", "client", "observer", "model"];
const DROP: &[&str] = &["operator", "model"];
const OVERVIEW: &[&str] = &["operator", "observer"];

/// Method path and the roles that may call it.
const TABLE: [(&str, &[&str]); 16] = [
    ("/suf.control.v1.Party/StartRun", OWNERS),
    ("/suf.control.v1.Party/GetRun", READ),
    ("/suf.control.v1.Party/ListRuns", READ),
    ("/suf.control.v1.Party/WatchRun", READ),
    ("/suf.control.v1.Party/CancelRun", CONTROL),
    ("/suf.control.v1.Party/SubmitInput", OWNERS),
    ("/suf.control.v1.Party/FetchOutput", CLIENT),
    ("/suf.control.v1.Party/AcknowledgeOutput", CLIENT),
    ("/suf.control.v1.Party/Describe", READ),
    ("/suf.control.v1.Party/Info", READ),
    ("/suf.control.v1.Party/ListLoads", READ),
    ("/suf.control.v1.Party/DropLoad", DROP),
    ("/suf.control.v1.Dealer/Info", READ),
    ("/suf.control.v1.Dealer/ListBatches", OVERVIEW),
    // Services of gRPC itself: whether the daemon is up, and the public text of the API.
    ("/grpc.health.v1.Health/", EVERYONE),
    ("/grpc.reflection.v1.ServerReflection/", EVERYONE),
];

/// Why a call was not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No row in the table.
    #[error("there is no method {0}: the two programs are probably of different versions")]
    UnknownMethod(String),
    /// The certificate's role is none of [`ROLES`].
    #[error("the certificate has the unknown role {0:?}: use one made by `suf pki sign`")]
    UnknownRole(String),
    /// The method is not for this role.
    #[error("role {role} may not call {method}: use a certificate of role {}", allowed.join(" or "))]
    NotAllowed {
        /// Role in the caller's certificate.
        role: String,
        /// Path of the method.
        method: String,
        /// Roles that may call it.
        allowed: &'static [&'static str],
    },
}

/// Whether `role` may call `method`, the path of an HTTP/2 request such as `/suf.control.v1.Party/StartRun`.
pub fn authorize(role: &str, method: &str) -> Result<(), Denied> {
    // A row that ends in a slash stands for a whole service.
    let covers = |row: &str| row == method || (row.ends_with('/') && method.starts_with(row));
    let Some((_, allowed)) = TABLE.iter().find(|(row, _)| covers(row)) else {
        return Err(Denied::UnknownMethod(method.to_owned()));
    };
    if !ROLES.contains(&role) {
        return Err(Denied::UnknownRole(role.to_owned()));
    }
    if !allowed.contains(&role) {
        return Err(Denied::NotAllowed { role: role.to_owned(), method: method.to_owned(), allowed });
    }
    Ok(())
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::UnknownMethod(_) => Code::Unimplemented,
            Denied::UnknownRole(_) | Denied::NotAllowed { .. } => Code::PermissionDenied,
        };
        CallFailure::caller(denied.to_string()).with_code(code).into()
    }
}

/// The caller of a method that was let through; handlers find it with [`caller`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// One of [`ROLES`].
    pub role: String,
    /// Certificate, address.
    pub peer: Peer,
}

/// The caller of this request.
///
/// Fails only where the service is mounted without [`crate::server::Control`], a defect.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Caller, CallFailure> {
    let caller = request.extensions().get::<Caller>();
    caller.ok_or_else(|| CallFailure::new(Fault::Bug, "the service is mounted without its authority check"))
}

/// Puts the table in front of all services.
#[derive(Clone)]
pub(crate) struct AuthorityLayer {
    pub(crate) callers: Callers,
}

/// A service behind the table.
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    callers: Callers,
}

impl AuthorityLayer {
    /// The caller, if the table lets it through, and the end of its certificate.
    fn check(callers: &Callers, request: &http::Request<Body>) -> Result<(Caller, Withdrawal), Status> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(CallFailure::new(Fault::Bug, "the connection carries no identity").into());
        };
        // Before the role is read, so that nothing in between is missed.
        let withdrawal = (callers.withdrawn)(&peer.certificate);
        let role = (callers.role_of)(&peer.certificate).map_err(not_accepted)?;
        authorize(&role, request.uri().path())?;
        Ok((Caller { role, peer: peer.clone() }, withdrawal))
    }
}

impl<S> Layer<S> for AuthorityLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, callers: self.callers.clone() }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match AuthorityLayer::check(&self.callers, &request) {
            Ok((caller, withdrawal)) => {
                request.extensions_mut().insert(caller);
                Box::pin(under_way::until_withdrawn(self.inner.call(request), withdrawal))
            }
            Err(status) => {
                tracing::warn!(method = request.uri().path(), reason = status.message(), "call refused");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

/// The end of a call whose caller's certificate is not accepted, for the reason `why`.
pub(crate) fn not_accepted(why: String) -> Status {
    CallFailure::caller(why).with_code(Code::Unauthenticated).into()
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorityLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityLayer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Paths of all methods of the API, from its own descriptors.
    fn methods() -> Vec<String> {
        let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        paths
    }

    /// Whether the role is meant to call the method, written a second time and by role, as an operator reads it.
    fn intended(role: &str, path: &str) -> bool {
        let method = path.rsplit('/').next().unwrap();
        match role {
            "operator" => !matches!(method, "StartRun" | "SubmitInput" | "FetchOutput" | "AcknowledgeOutput"),
            "client" => !matches!(method, "ListBatches" | "DropLoad"),
            "model" => !matches!(method, "ListBatches" | "FetchOutput" | "AcknowledgeOutput"),
            "observer" => matches!(
                method,
                "GetRun" | "ListRuns" | "WatchRun" | "Describe" | "Info" | "ListBatches" | "ListLoads"
            ),
            _ => false,
        }
    }

    #[test]
    fn every_method_is_open_to_the_intended_roles_only() {
        let methods = methods();
        assert_eq!(methods.len(), 14);
        for method in &methods {
            for role in ROLES {
                assert_eq!(authorize(role, method).is_ok(), intended(role, method), "{role} {method}");
            }
            assert!(matches!(authorize("root", method), Err(Denied::UnknownRole(_))), "{method}");
        }
    }

    #[test]
    fn health_and_reflection_are_open_to_every_role() {
        for role in ROLES {
            authorize(role, "/grpc.health.v1.Health/Check").unwrap();
            authorize(role, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").unwrap();
        }
        assert!(authorize("root", "/grpc.health.v1.Health/Check").is_err());
    }

    #[test]
    fn what_has_no_row_is_closed() {
        for path in
            ["", "/", "/suf.control.v1.Party/", "/suf.control.v1.Party/StartRunX", "/grpc.health.v1.Health"]
        {
            assert!(matches!(authorize("operator", path), Err(Denied::UnknownMethod(_))), "{path:?}");
        }
    }

    #[test]
    fn a_denial_says_which_certificate_to_use() {
        let denied = authorize("observer", "/suf.control.v1.Party/StartRun").unwrap_err();
        assert_eq!(
            denied.to_string(),
            "role observer may not call /suf.control.v1.Party/StartRun: use a certificate of role client or model"
        );
    }
}
