//! `Scale`: from a number to a place on paper, and which numbers deserve a tick.

/// How numbers are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Spread {
    /// Equal differences are equal distances.
    #[default]
    Linear,
    /// Equal ratios are equal distances; positive numbers only.
    Log,
    /// Counts by doublings, with 0 one step before 1.
    Doublings,
}

/// A stretch of numbers laid on a stretch of paper.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    spread: Spread,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Lays `low..=high` on `from..=to` (pixels). A stretch without length is widened a little.
    pub fn new(spread: Spread, (low, high): (f64, f64), (from, to): (f64, f64)) -> Scale {
        let (mut low, mut high) = (spread.bend(low), spread.bend(high));
        if high - low < 1e-9 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        Scale { spread, low, high, from, to }
    }

    /// The place of `value`; numbers beyond the stretch stay at its ends.
    pub fn at(&self, value: f64) -> f64 {
        let share = ((self.spread.bend(value) - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Numbers for ticks, about `count` of them, with their text.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let count = count.max(2);
        match self.spread {
            Spread::Linear => {
                let step = round_step((self.high - self.low) / count as f64);
                let first = (self.low / step - 1e-9).ceil() as i64;
                let last = (self.high / step + 1e-9).floor() as i64;
                let decimals = (-step.log10().floor()).max(0.0) as usize;
                (first..=last)
                    .map(|index| {
                        let value = index as f64 * step;
                        (value, format!("{value:.decimals$}").replace('-', "−"))
                    })
                    .collect()
            }
            Spread::Log => self.log_ticks(count),
            Spread::Doublings => {
                let top = self.high.floor().max(0.0) as u32;
                let step = (top as usize / count + 1) as u32;
                let mut ticks = Vec::new();
                if self.low < 0.0 {
                    ticks.push((0.0, "never".to_string()));
                }
                let bottom = self.low.ceil().max(0.0) as u32;
                ticks.extend((bottom..=top).step_by(step as usize).map(|power| {
                    let value = 2f64.powi(power as i32);
                    (value, format!("{value}"))
                }));
                ticks
            }
        }
    }

    fn log_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = ((self.low - 1e-9).ceil() as i32, (self.high + 1e-9).floor() as i32);
        if last - first >= 2 {
            let step = ((last - first) as usize / count + 1) as i32;
            let begin = first.div_euclid(step) * step;
            let begin = if begin < first { begin + step } else { begin };
            return (begin..=last)
                .step_by(step as usize)
                .map(|power| (10f64.powi(power), power_of_ten(power)))
                .collect();
        }
        let mut ticks = Vec::new();
        for power in first - 1..=last {
            for digit in [1.0, 2.0, 5.0] {
                let value = digit * 10f64.powi(power);
                if (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10()) {
                    let decimals = (-power).max(0) as usize;
                    ticks.push((value, format!("{value:.decimals$}")));
                }
            }
        }
        ticks
    }
}

impl Spread {
    fn bend(self, value: f64) -> f64 {
        match self {
            Spread::Linear => value,
            Spread::Log => value.max(1e-300).log10(),
            Spread::Doublings if value < 1.0 => -1.0,
            Spread::Doublings => value.log2(),
        }
    }
}

/// The nearest of 1, 2, 5 times a power of ten that is not smaller.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= step * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * power
}

fn power_of_ten(power: i32) -> String {
    match power {
        0 => "1".to_string(),
        1 => "10".to_string(),
        2 => "100".to_string(),
        _ => {
            let digits = power.to_string();
            let raised = digits.chars().map(|digit| match digit {
                '-' => '⁻',
                '1' => '¹',
                '2' => '²',
                '3' => '³',
                digit => char::from_u32(0x2070 + digit as u32 - '0' as u32).unwrap_or(digit),
            });
            format!("10{}", raised.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spread: Spread, range: (f64, f64), count: usize, expected: &[&str]) {
        let ticks = Scale::new(spread, range, (0.0, 100.0)).ticks(count);
        assert_eq!(ticks.iter().map(|tick| tick.1.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ticks_are_round_numbers() {
        check(Spread::Linear, (0.0, 1.0), 4, &["0.0", "0.5", "1.0"]);
        check(Spread::Linear, (0.0, 7.0), 8, &["0", "1", "2", "3", "4", "5", "6", "7"]);
        check(Spread::Linear, (-0.1, 0.3), 4, &["−0.1", "0.0", "0.1", "0.2", "0.3"]);
        check(Spread::Log, (0.01, 1000.0), 6, &["10⁻²", "10⁻¹", "1", "10", "100", "10³"]);
        check(Spread::Log, (0.2, 3.0), 6, &["0.2", "0.5", "1", "2"]);
        check(Spread::Doublings, (4.0, 8.0), 8, &["4", "8"]);
        check(Spread::Doublings, (0.0, 8.0), 8, &["never", "1", "2", "4", "8"]);
    }

    #[test]
    fn places_follow_the_spread() {
        let linear = Scale::new(Spread::Linear, (0.0, 10.0), (100.0, 0.0));
        assert_eq!([linear.at(0.0), linear.at(2.5), linear.at(20.0)], [100.0, 75.0, 0.0]);
        let log = Scale::new(Spread::Log, (1.0, 100.0), (0.0, 10.0));
        assert!((log.at(10.0) - 5.0).abs() < 1e-12);
        let doublings = Scale::new(Spread::Doublings, (0.0, 4.0), (0.0, 3.0));
        assert_eq!([0.0, 1.0, 2.0, 4.0].map(|seen| doublings.at(seen)), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_single_value_has_a_place() {
        assert_eq!(Scale::new(Spread::Linear, (3.0, 3.0), (0.0, 10.0)).at(3.0), 5.0);
    }
}
