//! Metric families one after the other, in the OpenMetrics text format, by prometheus-client's own encoder. A small
//! layer: it knows counters, gauges and infos with labels, and nothing of what is counted.

use std::borrow::Cow;
use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Labels of one series.
pub(crate) type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// The encoder wants to know the labels of the exemplars that we never give.
type NoExemplar = Labels<'static>;

/// A number; seconds are fractions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Whole(u64),
    Fraction(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Fraction(value)
    }
}

/// Writes families. The name comes without the unit and without `_total`: the encoder adds both.
pub(crate) struct Families<'e> {
    pub(crate) encoder: DescriptorEncoder<'e>,
}

impl Families<'_> {
    /// A number that only rises while the process lives.
    pub(crate) fn counter<'a, V: Into<Value>>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        self.family(name, unit, help, MetricType::Counter, rows, |metric, value| match value {
            Value::Whole(n) => metric.encode_counter::<NoExemplar, _, u64>(&n, None),
            Value::Fraction(n) => metric.encode_counter::<NoExemplar, _, u64>(&n, None),
        })
    }

    /// A number that goes up and down.
    pub(crate) fn gauge<'a, V: Into<Value>>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> Result<(), Error> {
        self.family(name, unit, help, MetricType::Gauge, rows, |metric, value| match value {
            Value::Whole(n) => metric.encode_gauge(&n),
            Value::Fraction(n) => metric.encode_gauge(&n),
        })
    }

    /// Facts that do not change, as labels.
    pub(crate) fn info(&mut self, name: &str, help: &str, labels: &Labels<'_>) -> Result<(), Error> {
        let mut metric = self.encoder.encode_descriptor(name, &help_text(help), None, MetricType::Info)?;
        metric.encode_info(labels)
    }

    fn family<'a, V: Into<Value>>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        kind: MetricType,
        rows: impl IntoIterator<Item = (Labels<'a>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let unit = (!unit.is_empty()).then(|| Unit::Other(unit.to_owned()));
        let mut family = self.encoder.encode_descriptor(name, &help_text(help), unit.as_ref(), kind)?;
        for (labels, value) in rows {
            // An empty label set would be written as `{}`, which parsers take but nobody expects.
            if labels.is_empty() {
                encode(&mut family, value.into())?;
            } else {
                encode(&mut family.encode_family(&labels)?, value.into())?;
            }
        }
        Ok(())
    }
}

/// A family's help is a sentence, as prometheus-client does it for registered ones.
fn help_text(help: &str) -> String {
    format!("{help}.")
}
