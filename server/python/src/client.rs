//! A client: connections to both parties, the calls that are open, and the daemons of a local run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use numpy::{PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::{Bound, PyAny, PyRef, PyResult, Python, pyclass, pymethods};
use suf_cli::{
    client::{Credentials, Parties},
    cluster::Cluster,
    error::Error,
    runtime::{Interrupt, until},
};
use suf_control::{client::check_url, failure::CallFailure, v1::Fault};
use suf_wire::Party;
use tokio::runtime::{Builder, Runtime};

use crate::{
    attend::{Stop, attend, attend_start},
    evaluate::{self, Asked, Written},
    failure::{closed, input},
    local,
};

/// How long open calls may take to end when the client is closed: what the client gives both parties to answer, and some more.
const CLOSING: Duration = Duration::from_secs(3);

/// Both parties, for the calls of all threads.
#[pyclass(frozen, weakref, module = "suf._suf")]
pub(crate) struct Client {
    /// The process that made it. In a copy by `fork` there are no threads that serve its connections.
    process: u32,
    /// Whether the parties are of this machine, and this client their only one.
    local: bool,
    shared: Mutex<Shared>,
    ended: Condvar,
}

/// What is there until the client is closed.
struct Shared {
    connected: Option<Arc<Connected>>,
    cluster: Option<Cluster>,
    /// The open calls, and the number of the next one.
    open: BTreeMap<u64, Interrupt>,
    next: u64,
}

/// Connections, and the threads that serve them.
pub(crate) struct Connected {
    runtime: Option<Runtime>,
    parties: Parties,
}

/// A call. It is open until this is dropped.
pub(crate) struct Call<'a> {
    client: &'a Client,
    number: u64,
    connected: Arc<Connected>,
    pub(crate) interrupt: Interrupt,
}

#[pymethods]
impl Client {
    /// Connects to both parties.
    #[staticmethod]
    fn connect(
        py: Python<'_>,
        party0: String,
        party1: String,
        identity: PathBuf,
        key: Option<PathBuf>,
        ca: Option<PathBuf>,
    ) -> PyResult<Self> {
        let urls = [(Party::P0, party0), (Party::P1, party1)].map(|(party, address)| {
            let url = if address.contains("://") { address } else { format!("https://{address}") };
            match check_url(&url) {
                Ok(()) => Ok(url),
                Err(error) => Err(input(py, &format!("{}: {error}", party.role()))),
            }
        });
        let [first, second] = urls;
        let urls = [first?, second?];
        if urls[0] == urls[1] {
            let both = &urls[0];
            return Err(input(
                py,
                &format!(
                    "party0 and party1 are both {both}: they are two daemons, each with an address of its own"
                ),
            ));
        }
        let credentials = Credentials { cert: identity, key, ca };
        let interrupt = Interrupt::default();
        let connected = attend(py, &interrupt, None, |_| {
            let identity = credentials.load()?;
            Connected::new(&interrupt, Parties::connect([&urls[0], &urls[1]], &identity))
        })?;
        Ok(Self::of(connected, None))
    }

    /// Starts a dealer and two parties on this machine, and connects to them.
    #[staticmethod]
    fn local(
        py: Python<'_>,
        program: (PathBuf, Vec<String>),
        backend: String,
        link: String,
        model: Option<(PathBuf, String)>,
    ) -> PyResult<Self> {
        let cluster = attend_start(py, move || local::start(program, backend, link, model))?;
        let interrupt = Interrupt::default();
        let (connected, cluster) = attend(py, &interrupt, None, |_| {
            let connected = Connected::new(&interrupt, cluster.connect(interrupt.clone()))?;
            Ok((connected, cluster))
        })?;
        Ok(Self::of(connected, Some(cluster)))
    }

    /// Whether it was made by [`Self::local`].
    #[getter]
    fn is_local(&self) -> bool {
        self.local
    }

    /// Whether it takes no calls any more.
    #[getter]
    fn closed(&self) -> bool {
        self.process != process::id() || self.shared().connected.is_none()
    }

    /// Evaluates a gate. The outputs are written to `out` if it is there, and returned otherwise.
    #[expect(clippy::too_many_arguments, reason = "the package alone calls it")]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        data: PyReadonlyArray1<'py, u8>,
        form: (String, Vec<usize>, bool),
        gate: &str,
        protocol: Option<&str>,
        shape: Option<&str>,
        deadline: Option<f64>,
        out: Option<PyReadwriteArray1<'py, u8>>,
        stop: PyRef<'_, Stop>,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(String, Option<Returned<'py>>)> {
        let deadline = evaluate::deadline(py, deadline)?;
        let asked = Asked::new(py, gate, protocol, shape, deadline, form)?;
        let data = data.as_slice().map_err(|error| input(py, &error))?;
        let mut out = out;
        let out = match &mut out {
            Some(out) => Some(out.as_slice_mut().map_err(|error| input(py, &error))?),
            None => None,
        };
        let call = self.begin(py, &stop)?;
        let (figures, written) = attend(py, &call.interrupt, progress.as_ref(), |teller| {
            call.run(async |parties| evaluate::evaluate(parties, &asked, data, out, teller).await)
        })?;
        let returned = match written {
            Written::Out => None,
            Written::Own { bytes, dtype, wider } => Some((PyArray1::from_vec(py, bytes), dtype, wider)),
        };
        Ok((figures.to_string(), returned))
    }

    /// Ends open calls, the connections, and the daemons of a local run.
    fn close(&self, py: Python<'_>) {
        if self.process == process::id() {
            py.detach(|| self.end());
        }
    }

    /// Lets go of what belongs to the original of this process. To be called in the copy that `fork` makes.
    fn forget(&self) {
        // A thread of the original may have held the lock: then the copy keeps all, and touches nothing.
        if let Ok(mut shared) = self.shared.try_lock() {
            std::mem::forget(shared.connected.take());
            if let Some(cluster) = shared.cluster.take() {
                cluster.forget();
            }
        }
    }
}

/// Bytes of the outputs, the name of their type, and why that is a wider one than asked for.
type Returned<'py> = (Bound<'py, PyArray1<u8>>, &'static str, Option<String>);

impl Client {
    fn of(connected: Connected, cluster: Option<Cluster>) -> Self {
        Self {
            process: process::id(),
            local: cluster.is_some(),
            shared: Mutex::new(Shared {
                connected: Some(Arc::new(connected)),
                cluster,
                open: BTreeMap::new(),
                next: 0,
            }),
            ended: Condvar::new(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call that `stop` can end.
    ///
    /// # Errors
    /// When the client is closed, or was made by another process.
    pub(crate) fn begin(&self, py: Python<'_>, stop: &Stop) -> PyResult<Call<'_>> {
        if self.process != process::id() {
            let message = "the client was made before this process was forked: make a client after the fork";
            return Err(closed(py, message));
        }
        let mut shared = self.shared();
        let Some(connected) = shared.connected.clone() else {
            return Err(closed(py, "the client is closed: make another one"));
        };
        let number = shared.next;
        shared.next += 1;
        let interrupt = stop.interrupt();
        shared.open.insert(number, interrupt.clone());
        Ok(Call { client: self, number, connected, interrupt })
    }

    fn end(&self) {
        let mut shared = self.shared();
        // The last call drops them, if it outlives this one.
        drop(shared.connected.take());
        shared.open.values().for_each(Interrupt::send);
        let open = |shared: &mut Shared| !shared.open.is_empty();
        let (mut shared, _) =
            self.ended.wait_timeout_while(shared, CLOSING, open).unwrap_or_else(PoisonError::into_inner);
        let cluster = shared.cluster.take();
        drop(shared);
        // It waits for the processes' end.
        drop(cluster);
    }

    /// `error`, with the end of the log of a daemon of the local run that has died.
    fn explained(&self, error: Error) -> Error {
        let Some(death) = self.shared().cluster.as_mut().and_then(Cluster::death) else { return error };
        match error {
            Error::Unanswered { place, .. } => Error::Unanswered { place, reason: death },
            Error::Run { place, failure } if failure.fault != Fault::Caller => {
                let reason = format!("{}; {death}", failure.reason);
                Error::Run { place, failure: CallFailure { reason, ..failure } }
            }
            error => error,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.process == process::id() {
            self.end();
        } else {
            self.forget();
        }
    }
}

impl Call<'_> {
    /// Runs `work` to its end, or until the call is interrupted; its runs are then cancelled at both parties.
    ///
    /// # Errors
    /// Those of `work`, with what is known of a local run's daemons.
    pub(crate) fn run<T>(&self, work: impl AsyncFnOnce(&Parties) -> Result<T, Error>) -> Result<T, Error> {
        let parties = self.connected.parties.clone().until(self.interrupt.clone());
        let worked = self.connected.runtime().block_on(until(&self.interrupt, work(&parties)));
        worked.map_err(|error| self.client.explained(error))
    }

    /// Whether the parties are of this machine, and this client their only one.
    pub(crate) fn is_local(&self) -> bool {
        self.client.local
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.client.shared().open.remove(&self.number);
        self.client.ended.notify_all();
    }
}

impl Connected {
    fn new(
        interrupt: &Interrupt,
        connecting: impl Future<Output = Result<Parties, Error>>,
    ) -> Result<Self, Error> {
        // One thread serves the connections. A call's own work is done by the thread that waits for it.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let failed = |error| Error::here(Fault::Device, format!("cannot start a thread: {error}"));
        let runtime = runtime.map_err(failed)?;
        let parties = runtime.block_on(until(interrupt, connecting))?;
        Ok(Self { runtime: Some(runtime), parties })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken by the drop alone")
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing is lost: what was to be told to the parties was told by the calls.
            runtime.shutdown_background();
        }
    }
}
