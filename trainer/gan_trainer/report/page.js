"use strict";
for (const film of document.querySelectorAll("figure.film")) {
  const frames = JSON.parse(film.querySelector("script").textContent);
  const [image, slider, output, play] = ["img", "input", "output", "button"].map((name) => film.querySelector(name));
  let timer = null;
  const show = (index) => {
    const [step, uri] = frames[index];
    slider.value = String(index);
    image.src = uri;
    image.alt = `Generated images at step ${step}`;
    output.textContent = `step ${step.toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  };
  const start = () => {
    if (Number(slider.value) === frames.length - 1) show(0);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      const next = Number(slider.value) + 1;
      if (next < frames.length) show(next);
      else stop();
    }, 200);
  };
  slider.hidden = play.hidden = false;
  slider.addEventListener("input", () => {
    stop();
    show(Number(slider.value));
  });
  play.addEventListener("click", () => (timer === null ? start() : stop()));
  show(frames.length - 1);
}
