//! Metrics with their values, in whatever form is asked for.

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt::Error;

/// MetricValues of a metric, each with its labels; one without any is the metric's only value.
pub(super) type MetricValues<V = &'static str> = Vec<(Vec<(&'static str, V)>, u64)>;

/// One value without labels.
pub(super) fn one(value: u64) -> MetricValues {
    vec![(vec![], value)]
}

/// Writes metrics. The methods differ in kind and unit, which is part of a metric's name.
pub(super) struct Families<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

type Written = Result<(), Error>;

impl Families<'_, '_> {
    /// A number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, values: MetricValues) -> Written {
        self.family(MetricType::Counter, None, name, help, values)
    }

    /// A number of bytes that only grows.
    pub(super) fn byte_counter(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Counter, Some(&Unit::Bytes), name, help, one(value))
    }

    /// A number that rises and falls.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Gauge, None, name, help, one(value))
    }

    /// A number of bytes that rises and falls.
    pub(super) fn byte_gauge(&mut self, name: &str, help: &str, value: u64) -> Written {
        self.family(MetricType::Gauge, Some(&Unit::Bytes), name, help, one(value))
    }

    /// Any metric; without values it is left out.
    pub(super) fn family<V: EncodeLabelValue>(
        &mut self,
        kind: MetricType,
        unit: Option<&Unit>,
        name: &str,
        help: &str,
        values: MetricValues<V>,
    ) -> Written {
        if values.is_empty() {
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
        _ => metric.encode_gauge(&(value as i64)),
    }
}
