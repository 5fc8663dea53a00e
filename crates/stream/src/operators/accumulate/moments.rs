//! Variance, standard deviation, covariance and correlation from sums that deletions undo.
//!
//! n·Σx² − (Σx)² loses all its digits in plain floats when the values are close together. Sums and products are kept in
//! two floats each, which has more than 100 bits, so that the difference is right to the last digits of one. What a value
//! leaves behind when it is taken back is 10⁻³¹ of its square: only after values 10¹⁰ times as large as the spread of
//! those that stay does a result lose the ninth digit.

use super::{Accumulate, take_array, valid};
use crate::error::Result;
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use std::sync::Arc;

/// A number as the unevaluated sum of two floats.
#[derive(Clone, Copy, Debug, Default)]
struct Double {
    high: f64,
    low: f64,
}

impl Double {
    fn sum_of(a: f64, b: f64) -> Self {
        let high = a + b;
        let part = high - a;
        Self { high, low: (a - (high - part)) + (b - part) }
    }

    fn product_of(a: f64, b: f64) -> Self {
        let high = a * b;
        Self { high, low: a.mul_add(b, -high) }
    }

    fn plus(self, other: Self) -> Self {
        let high = Self::sum_of(self.high, other.high);
        let low = Self::sum_of(self.low, other.low);
        let first = Self::sum_of(high.high, high.low + low.high);
        Self::sum_of(first.high, first.low + low.low)
    }

    fn minus(self, other: Self) -> Self {
        self.plus(Self { high: -other.high, low: -other.low })
    }

    fn times(self, other: Self) -> Self {
        let product = Self::product_of(self.high, other.high);
        Self::sum_of(product.high, product.low + (self.high * other.low + self.low * other.high))
    }

    fn value(self) -> f64 {
        self.high + self.low
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Variance { sample: bool, root: bool },
    Covariance { sample: bool },
    Correlation,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    rows: i64,
    /// Rows of a NaN or an infinity, from which no sum comes back.
    broken: i64,
    x: Double,
    y: Double,
    xx: Double,
    yy: Double,
    xy: Double,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64, weight: i64) {
        self.rows += weight;
        if !x.is_finite() || !y.is_finite() {
            self.broken += weight;
            return;
        }
        let weight = Double { high: weight as f64, low: 0.0 };
        let times = |a: f64, b: f64| Double::product_of(a, b).times(weight);
        self.x = self.x.plus(times(x, 1.0));
        self.y = self.y.plus(times(y, 1.0));
        self.xx = self.xx.plus(times(x, x));
        self.yy = self.yy.plus(times(y, y));
        self.xy = self.xy.plus(times(x, y));
    }

    fn result(&self, moment: Moment) -> Option<f64> {
        let sample = match moment {
            Moment::Variance { sample, .. } | Moment::Covariance { sample } => sample,
            Moment::Correlation => true,
        };
        if self.rows < 1 || (sample && self.rows < 2) {
            return None;
        }
        if self.broken != 0 {
            return Some(f64::NAN);
        }
        let rows = self.rows as f64;
        let n = Double { high: rows, low: 0.0 };
        let spread = |product: Double, a: Double, b: Double| n.times(product).minus(a.times(b)).value();
        let divisor = rows * if sample { rows - 1.0 } else { rows };
        match moment {
            Moment::Variance { root, .. } => {
                let variance = spread(self.xx, self.x, self.x).max(0.0) / divisor;
                Some(if root { variance.sqrt() } else { variance })
            }
            Moment::Covariance { .. } => Some(spread(self.xy, self.x, self.y) / divisor),
            Moment::Correlation => {
                let (x, y) = (spread(self.xx, self.x, self.x), spread(self.yy, self.y, self.y));
                (x > 0.0 && y > 0.0).then(|| spread(self.xy, self.x, self.y) / (x.sqrt() * y.sqrt()))
            }
        }
    }
}

pub(super) struct Moments {
    moment: Moment,
    sums: Vec<Sums>,
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "var" => Moment::Variance { sample: true, root: false },
        "var_pop" => Moment::Variance { sample: false, root: false },
        "stddev" => Moment::Variance { sample: true, root: true },
        "stddev_pop" => Moment::Variance { sample: false, root: true },
        "covar_samp" => Moment::Covariance { sample: true },
        "covar_pop" => Moment::Covariance { sample: false },
        "corr" => Moment::Correlation,
        _ => return None,
    })
}

impl Moments {
    pub(super) fn has(name: &str) -> bool {
        moment(name).is_some()
    }

    pub(super) fn new(name: &str) -> Self {
        Self { moment: moment(name).unwrap_or(Moment::Correlation), sums: vec![] }
    }
}

impl Accumulate for Moments {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots.max(self.sums.len()), Sums::default());
    }

    fn update(&mut self, slots: &[u32], arguments: &[ArrayRef], weights: &[i64]) -> Result<()> {
        let (x, y) = (&arguments[0], arguments.get(1).unwrap_or(&arguments[0]));
        let (has_x, has_y) = (valid(x), valid(y));
        let (x, y) = (x.as_primitive::<Float64Type>().values(), y.as_primitive::<Float64Type>().values());
        for (row, slot) in slots.iter().enumerate() {
            if has_x(row) && has_y(row) && weights[row] != 0 {
                self.sums[*slot as usize].add(x[row], y[row], weights[row]);
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let result = |slot: &u32| self.sums[*slot as usize].result(self.moment);
        Ok(Arc::new(slots.iter().map(result).collect::<Float64Array>()))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let sums = &self.sums[slot as usize];
        out.extend_from_slice(&sums.rows.to_le_bytes());
        out.extend_from_slice(&sums.broken.to_le_bytes());
        for sum in [sums.x, sums.y, sums.xx, sums.yy, sums.xy] {
            out.extend_from_slice(&sum.high.to_le_bytes());
            out.extend_from_slice(&sum.low.to_le_bytes());
        }
    }

    fn decode(&mut self, slot: u32, bytes: &mut &[u8]) -> Option<()> {
        let mut sums = Sums {
            rows: i64::from_le_bytes(take_array(bytes)?),
            broken: i64::from_le_bytes(take_array(bytes)?),
            ..Sums::default()
        };
        for sum in [&mut sums.x, &mut sums.y, &mut sums.xx, &mut sums.yy, &mut sums.xy] {
            sum.high = f64::from_le_bytes(take_array(bytes)?);
            sum.low = f64::from_le_bytes(take_array(bytes)?);
        }
        self.sums[slot as usize] = sums;
        Some(())
    }

    fn clear(&mut self, slot: u32) {
        self.sums[slot as usize] = Sums::default();
    }

    fn memory(&self) -> usize {
        self.sums.capacity() * size_of::<Sums>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variance_far_from_zero_keeps_its_digits_and_comes_back_from_a_large_value() {
        let mut sums = Sums::default();
        for value in [1e6 + 0.125, 1e6 + 0.25, 1e6 + 0.5] {
            sums.add(value, value, 1);
        }
        sums.add(1e9, 1e9, 1);
        sums.add(f64::INFINITY, 0.0, 1);
        sums.add(1e9, 1e9, -1);
        sums.add(f64::INFINITY, 0.0, -1);
        let variance = sums.result(Moment::Variance { sample: true, root: false }).unwrap();
        // Of 1, 2 and 4 eighths: 7/3 sixty-fourths.
        assert!((variance - 7.0 / 192.0).abs() < 1e-12, "{variance}");
        sums.add(1e6 + 0.125, 1e6 + 0.125, -1);
        sums.add(1e6 + 0.25, 1e6 + 0.25, -1);
        assert_eq!(sums.result(Moment::Variance { sample: false, root: false }), Some(0.0));
    }
}
