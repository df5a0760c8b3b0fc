// A scan or result → its verdict in words, with an icon and a class of colours.

import { num, t } from "./language.js";

const WORST_FIRST = ["tampered", "unreadable", "inconclusive", "no-sign"];

/** The state of a scan: while it waits or works that, then the verdict of its gravest result. */
export function verdictOf(scan) {
  if (scan.state !== "done") return { kind: scan.state === "failed" ? "unreadable" : "working", icon: scan.state === "failed" ? "unreadable" : "working", words: t(`state.${scan.state}`) };
  const worst = WORST_FIRST.find((look) => scan.looks.includes(look)) ?? "unreadable";
  const said = scan.verdicts[scan.looks.indexOf(worst)] ?? worst;
  return { kind: worst, icon: worst, words: t(`verdict.${said}.short`) };
}

/** What a scan is called: the user's own name for it, or which sample it is. */
export const nameOf = (scan) => (scan.sample ? t(`page.sample.${scan.sample}`) : scan.label || t("page.scan.unnamed"));

/** The colours and the icon of a result: "no sign" without a calibration (MRI) never looks like an all-clear. */
export const toneOf = (result) => (result.verdict === "no-sign" && result.p_value === null ? "inconclusive" : result.verdict);

/** The verdict of one result as a sentence. */
export function headline(result) {
  const places = result.findings.length;
  return result.verdict === "tampered" && places ? t("verdict.tampered.places", { n: places }) : t(`verdict.${result.verdict}`);
}

/** How sure the verdict is: sentences, strongest first. */
export function certainty(result) {
  if (result.score === null) return [t("sure.not-scored")];
  const rank = t("sure.rank", { score: result.score });
  if (result.verdict === "inconclusive") return [t("sure.inconclusive"), rank];
  if (!result.calibration || result.p_value === null) return [t("sure.uncalibrated"), rank];
  return [...compared(result), rank];
}

function compared({ p_value: p, calibration }) {
  const n = calibration.n_patients;
  const asHigh = Math.round(p * (n + 1)) - 1;
  return [
    t("sure.alarms", { n: Math.ceil(100 * calibration.false_alarm_upper), patients: n }),
    t(calibration.basis === "slice" ? "sure.compared.slice" : "sure.compared.volume", { patients: n }) + " " + (asHigh <= 0 ? t("sure.none-as-high") : t("sure.as-high", { n: asHigh, patients: n })),
    t("sure.p", { p: num(p, 3), floor: num(calibration.p_floor, 3) }),
  ];
}
