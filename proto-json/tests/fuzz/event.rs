//! One event: the verdict of the slow reference and of the schema, at bounded cost.

use crate::reference::same;
use logweir_fuzz::{Work, bounded};
use logweir_proto::Code;
use logweir_proto::event::{self, Rules, Window};

const NOW_MS: i64 = 1_795_514_580_000;
const WINDOW: Window = Window { now_ms: NOW_MS, max_age_ms: 90 * 86_400_000, max_ahead_ms: 600_000 };

/// A bit for each level of nesting, and a sentence for what is wrong.
const WORK: Work = Work { steps: (10, 1_000), memory: (1, 1_000) };

#[test]
fn fuzz_event() {
    logweir_fuzz::target("proto/event", |line| {
        same(line);
        let form = Rules { max_bytes: usize::MAX, window: None };
        let verdict = bounded(line.len(), WORK, || event::check(line, &form));

        let fits = Rules { max_bytes: line.len(), window: None };
        assert_eq!(event::check(line, &fits), verdict);
        if let Some(less) = line.len().checked_sub(1) {
            let long = event::check(line, &Rules { max_bytes: less, window: None }).unwrap_err();
            assert_eq!((long.code, long.field), (Code::TooLong, None));
        }
        let in_time = event::check(line, &Rules { window: Some(WINDOW), ..form });
        match &verdict {
            Ok(event) => {
                let (ahead, age) = (event.timestamp_ms - NOW_MS, NOW_MS - event.timestamp_ms);
                let code = in_time.as_ref().map(|same| assert_eq!(same, event)).map_err(|r| r.code);
                let expected = if ahead > WINDOW.max_ahead_ms {
                    Err(Code::InFuture)
                } else if age > WINDOW.max_age_ms {
                    Err(Code::TooOld)
                } else {
                    Ok(())
                };
                assert_eq!(code, expected);
            }
            Err(_) => assert_eq!(in_time, verdict),
        }
        if let Err(rejection) = in_time {
            // 64 bytes of the event may be quoted, each up to six long when it is escaped.
            assert!(rejection.detail.len() < 700, "{}", rejection.detail);
            assert!(rejection.detail.chars().all(|c| !c.is_control()), "{:?}", rejection.detail);
        }
    });
}
