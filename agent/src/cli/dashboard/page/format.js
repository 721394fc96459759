// Numbers as people read them, and what they mean. Pure.

// Never rounded up to 100.
export function percent(value) {
  if (value === null) return "–";
  if (value === 100) return "100 %";
  const shown = Math.floor(value * 10) / 10;
  return `${shown.toFixed(shown < 10 && shown > 0 ? 1 : shown % 1 ? 1 : 0)} %`;
}

export function rate(value) {
  if (value === 0) return "0";
  if (value < 0.095) return "<0.1";
  if (value < 9.95) return value.toFixed(1);
  return value < 9999.5 ? String(Math.round(value)) : short(value);
}

export function short(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) {
      const amount = value / (unit === "k" ? 1e3 : size);
      return `${amount < 10 ? amount.toFixed(1) : Math.round(amount)}${unit}`;
    }
  }
  return String(Math.round(value));
}

export function micros(value) {
  if (value === null) return "–";
  if (value < 1000) return `${value} µs`;
  if (value < 1e6) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)} ms`;
  return `${(value / 1e6).toFixed(1)} s`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function age(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 1) return `${Math.round(milliseconds)} ms`;
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// What a success rate is called, as `posthaste graph` colours it: good from 99 % on, doubtful from 95 % on.
export function tone(success) {
  if (success === null || success === undefined) return "idle";
  if (success >= 99) return "good";
  return success >= 95 ? "doubtful" : "bad";
}

// A sign for who does not see colours.
export const SIGNS = { good: "✓", doubtful: "!", bad: "✕", idle: "·" };

// The same in a word.
export const SHORT = { good: "healthy", doubtful: "degraded", bad: "failing", idle: "idle" };

// The same in a sentence.
export const WORDS = {
  good: "healthy: 99 % and more succeed",
  doubtful: "degraded: 95 to 99 % succeed",
  bad: "failing: less than 95 % succeed",
  idle: "nothing to judge by in the last seconds",
};
