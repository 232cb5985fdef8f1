// A canvas to draw on, for gr.HTML: `element`, `props`, `trigger` and `watch` are Gradio's. Its value is the PNG that it
// shows, as a data URL; null is a blank canvas. Python sets the ground to draw on, and gets "input" after each stroke.
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const width = element.querySelector("input");
let ground = null;

function clear() {
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (ground) pen.drawImage(ground, 0, 0);
}

async function show(value) {
  ground = null;
  if (value) {
    const image = new Image();
    image.src = value;
    await image.decode();
    if (props.value !== value) return; // a later one is on its way
    ground = image;
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
  }
  clear();
}

function say() {
  props.value = canvas.toDataURL("image/png");
  trigger("input");
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * (canvas.width / box.width), (event.clientY - box.top) * (canvas.height / box.height)];
}

function stroke(event) {
  pen.lineTo(...place(event));
  pen.stroke();
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  pen.lineWidth = (width.value / 100) * canvas.width;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = props.colour;
  pen.beginPath();
  const [x, y] = place(event);
  pen.moveTo(x, y);
  pen.lineTo(x + 0.01, y); // a click alone is a dot, which a line of no length is not
  pen.stroke();
});
canvas.addEventListener("pointermove", (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) event.getCoalescedEvents().forEach(stroke);
});
canvas.addEventListener("lostpointercapture", say);
element.querySelector("button").addEventListener("click", () => {
  clear();
  say();
});
watch("value", () => show(props.value));
show(props.value);
