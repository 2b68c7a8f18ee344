//! One metric with its values, in whatever form is asked for.

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt::Error;

/// Writes a metric: each value with its labels, or one without any.
pub(super) fn family<V: EncodeLabelValue>(
    out: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    unit: Option<&Unit>,
    name: &str,
    help: &str,
    values: Vec<(Vec<(&'static str, V)>, u64)>,
) -> Result<(), Error> {
    let mut metric = out.encode_descriptor(name, help, unit, kind)?;
    for (labels, value) in values {
        if labels.is_empty() {
            put(&mut metric, kind, value)?;
        } else {
            put(&mut metric.encode_family(&labels)?, kind, value)?;
        }
    }
    Ok(())
}

fn put(metric: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> Result<(), Error> {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&(value as i64)),
    }
}
