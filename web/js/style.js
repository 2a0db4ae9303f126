// The look of the parts around the strip.

const STYLE = `
.pusa-timeline { box-sizing: border-box; width: 100%; min-height: 212px; display: flex; flex-direction: column; gap: 4px;
  font: 12px/1.35 system-ui, sans-serif; color: var(--input-text, #ddd); user-select: none; }
.pusa-timeline select, .pusa-timeline input { font: inherit; color: inherit; background: var(--comfy-input-bg, #222);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; height: 24px; max-width: 100%; }
.pusa-timeline canvas { display: block; width: 100%; border-radius: 4px; touch-action: none; cursor: ns-resize; outline: none; }
.pusa-timeline-strip { position: relative; }
.pusa-timeline-strip input { position: absolute; top: 40px; width: 56px; display: none; }
.pusa-timeline-bubble { position: absolute; top: 18px; padding: 2px 6px; border-radius: 4px; background: #000c; color: #fff;
  pointer-events: none; white-space: nowrap; display: none; }
.pusa-timeline-note { min-height: 32px; max-height: 64px; overflow: auto; }
.pusa-timeline-wrong { text-decoration: underline wavy #ff6b6b; }
.pusa-timeline[data-disabled] canvas { cursor: not-allowed; }
`

/** Adds the style to the page, once. */
export function addStyle() {
  if (document.getElementById('pusa-timeline-style')) return
  const element = document.createElement('style')
  element.id = 'pusa-timeline-style'
  element.textContent = STYLE
  document.head.append(element)
}
