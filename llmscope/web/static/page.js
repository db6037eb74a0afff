// Keys go to the terminal without a click first.
window.addEventListener("load", () => {
  const keys = document.querySelector(".xterm-helper-textarea");
  const body = document.body;
  const focus = new MutationObserver(() => {
    if (body.classList.contains("-first-byte")) {
      focus.disconnect();
      keys.focus();
    }
  });
  focus.observe(body, { attributeFilter: ["class"] });
});
