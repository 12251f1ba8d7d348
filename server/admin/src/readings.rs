//! Figures of a process, read when they are asked for: nothing is counted for them while the process works.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, text::encode as encode_text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};

/// One figure, of one thing or of several that labels tell apart.
#[derive(Clone, Debug)]
pub struct Reading {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Gauge,
    Counter,
}

impl Reading {
    /// What goes up and down. The full name is `suf_<name>_<unit>`.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>) -> Self {
        Self { name, help, unit, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// What only goes up while the process lives. The full name is `suf_<name>_<unit>_total`.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, unit: Option<Unit>) -> Self {
        Self { name, help, unit, kind: Kind::Counter, samples: Vec::new() }
    }

    /// The value where there is one thing only.
    #[must_use]
    pub fn of(self, value: f64) -> Self {
        self.with([], value)
    }

    /// The value of the thing with these labels.
    #[must_use]
    pub fn with<const N: usize>(mut self, labels: [(&'static str, &str); N], value: f64) -> Self {
        self.samples.push((labels.map(|(key, value)| (key, value.to_owned())).to_vec(), value));
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
        };
        let mut encoder = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        for (labels, value) in &self.samples {
            if labels.is_empty() {
                self.put(&mut encoder, *value)?;
            } else {
                self.put(&mut encoder.encode_family(labels)?, *value)?;
            }
        }
        Ok(())
    }

    fn put(&self, encoder: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
        match self.kind {
            Kind::Gauge => encoder.encode_gauge(&value),
            Kind::Counter => encoder.encode_counter(&value, None::<&Exemplar<Labels, f64>>),
        }
    }
}

/// Adds what `read` gives to `registry`, read anew for each scrape.
pub fn read_at_each_scrape(registry: &mut Registry, read: impl Fn() -> Vec<Reading> + Send + Sync + 'static) {
    registry.register_collector(Box::new(Reader(read)));
}

/// All metrics of `registry`, in the format of OpenMetrics.
#[must_use]
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    encode_text(&mut text, registry).expect("a string takes all that is written to it");
    text
}

struct Reader<F>(F);

impl<F: Fn() -> Vec<Reading> + Send + Sync + 'static> Collector for Reader<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)()
            .iter()
            .filter(|reading| !reading.samples.is_empty())
            .try_for_each(|reading| reading.encode(&mut encoder))
    }
}

impl<F> fmt::Debug for Reader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_have_names_with_units_and_are_read_at_each_scrape() {
        let mut registry = Registry::with_prefix("suf");
        let count = std::sync::atomic::AtomicU32::new(0);
        read_at_each_scrape(&mut registry, move || {
            let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            vec![
                Reading::gauge("disk_free", "Bytes that are free", Some(Unit::Bytes)).of(f64::from(count)),
                Reading::counter("runs", "Runs that ended", None)
                    .with([("outcome", "done")], 3.0)
                    .with([("outcome", "failed")], 1.0),
                Reading::gauge("nothing", "Of which there is none now", None),
            ]
        });
        let (first, second) = (encode(&registry), encode(&registry));
        assert!(first.contains("suf_disk_free_bytes 0.0\n") && second.contains("suf_disk_free_bytes 1.0\n"));
        assert!(first.contains("suf_runs_total{outcome=\"done\"} 3.0\n"), "{first}");
        assert!(first.contains("suf_runs_total{outcome=\"failed\"} 1.0\n"), "{first}");
        assert!(!first.contains("nothing"), "{first}");
    }
}
