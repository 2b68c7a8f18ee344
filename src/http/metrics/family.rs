//! Encoding of metrics with whole-numbered values.

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt::Error;

/// The values of a metric, each with its labels; a metric without labels has one value.
pub(super) type MetricValues<V = &'static str> = Vec<(Vec<(&'static str, V)>, u64)>;

/// A single value without labels.
pub(super) fn one(value: u64) -> MetricValues {
    vec![(vec![], value)]
}

/// Writes metrics. The unit becomes part of a metric's name.
pub(super) struct Families<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

type Written = Result<(), Error>;

impl Families<'_, '_> {
    /// Writes a number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, values: MetricValues) -> Written {
        self.family(MetricType::Counter, None, name, help, values)
    }

    /// Writes a number of bytes that only grows.
    pub(super) fn byte_counter(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Counter, Some(&Unit::Bytes), name, help, one(value))
    }

    /// Writes a number that rises and falls.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Gauge, None, name, help, one(value))
    }

    /// Writes a number of bytes that rises and falls.
    pub(super) fn byte_gauge(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Gauge, Some(&Unit::Bytes), name, help, one(value))
    }

    /// Writes a time that rises and falls, given in microseconds, in seconds.
    pub(super) fn time_gauge(&mut self, name: &str, help: &str, value_us: u64) -> Written {
        let unit = Some(&Unit::Seconds);
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        metric.encode_gauge(&(value_us as f64 / 1e6))
    }

    /// Writes a metric of any kind, or nothing without values.
    pub(super) fn family<V: EncodeLabelValue>(
        &mut self,
        kind: MetricType,
        unit: Option<&Unit>,
        name: &str,
        help: &str,
        values: MetricValues<V>,
    ) -> Written {
        if values.is_empty() {
            // A description without samples is noise on every scrape.
            return Ok(());
        }

        let mut metric = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                put(&mut metric, kind, value)?;
            } else {
                put(&mut metric.encode_family(&labels)?, kind, value)?;
            }
        }
        Ok(())
    }
}

fn put(metric: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> Written {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        // The encoder's integer gauges are signed; no count of ours reaches 63 bits.
        _ => metric.encode_gauge(&(value as i64)),
    }
}
