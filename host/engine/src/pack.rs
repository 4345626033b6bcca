//! Lines as the guest gets them: one byte list and two packed columns, borrowed wherever they can be.
//!
//! What is lowered is copied into the guest's memory, so no more of the chunk goes in than the lines need.

use crate::answer::Lines;
use crate::wit::LinesIn;

#[cfg(target_endian = "big")]
compile_error!("packed columns are little-endian and are lent as they lie in memory");

/// Bytes before the first line that are copied along rather than moving every position.
const LEAD_MAX: usize = 1024;

/// Buffers that are used again.
#[derive(Default)]
pub(crate) struct Scratch {
    data: Vec<u8>,
    starts: Vec<u32>,
    ends: Vec<u32>,
}

/// All lines, or those that are `given` (indices, rising, not empty).
pub(crate) fn pack<'a>(lines: Lines<'a>, given: Option<&[u32]>, scratch: &'a mut Scratch) -> LinesIn<'a> {
    match given {
        None => pack_all(lines, scratch),
        Some(given) => pack_some(lines, given, scratch),
    }
}

fn pack_all<'a>(lines: Lines<'a>, scratch: &'a mut Scratch) -> LinesIn<'a> {
    let (from, to) = (lines.starts[0], lines.ends[lines.len() - 1]);
    if from as usize <= LEAD_MAX {
        return packed(&lines.data[..to as usize], lines.starts, lines.ends);
    }
    scratch.starts.clear();
    scratch.starts.extend(lines.starts.iter().map(|start| start - from));
    scratch.ends.clear();
    scratch.ends.extend(lines.ends.iter().map(|end| end - from));
    packed(&lines.data[from as usize..to as usize], &scratch.starts, &scratch.ends)
}

fn pack_some<'a>(lines: Lines<'a>, given: &[u32], scratch: &'a mut Scratch) -> LinesIn<'a> {
    let of = |i: &u32| (lines.starts[*i as usize], lines.ends[*i as usize]);
    let (from, _) = of(&given[0]);
    let (_, to) = of(&given[given.len() - 1]);
    let bytes: usize = given.iter().map(of).map(|(start, end)| (end - start) as usize).sum();
    scratch.starts.clear();
    scratch.ends.clear();
    // Few lines far apart are moved together, many stay where they are.
    if bytes < (to - from) as usize / 2 {
        scratch.data.clear();
        for (start, end) in given.iter().map(of) {
            scratch.starts.push(scratch.data.len() as u32);
            scratch.data.extend_from_slice(&lines.data[start as usize..end as usize]);
            scratch.ends.push(scratch.data.len() as u32);
        }
        return packed(&scratch.data, &scratch.starts, &scratch.ends);
    }
    for (start, end) in given.iter().map(of) {
        scratch.starts.push(start - from);
        scratch.ends.push(end - from);
    }
    packed(&lines.data[from as usize..to as usize], &scratch.starts, &scratch.ends)
}

fn packed<'a>(data: &'a [u8], starts: &'a [u32], ends: &'a [u32]) -> LinesIn<'a> {
    LinesIn { data, starts: bytemuck::cast_slice(starts), ends: bytemuck::cast_slice(ends) }
}
