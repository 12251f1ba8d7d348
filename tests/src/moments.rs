//! Ends of runs at chosen moments.

use std::{str::FromStr, time::Duration};

/// The number in the environment variable `name`, if it is set.
///
/// # Panics
/// When it holds something else.
#[must_use]
pub fn number<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().map_or(default, |text| text.parse().ok().expect("a number"))
}

/// `run`, which is ended by `end` after `moment`, if it has not ended before.
pub async fn ended_after<T>(run: impl Future<Output = T>, moment: Duration, end: impl FnOnce()) -> T {
    let mut run = std::pin::pin!(run);
    let early = tokio::time::timeout(moment, &mut run).await;
    end();
    match early {
        Ok(output) => output,
        Err(_) => run.await,
    }
}
