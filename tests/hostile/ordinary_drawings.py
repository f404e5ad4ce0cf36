"""Ordinary programs that draw with matplotlib: the picture is read back and its colours counted."""

from ordinary_program import Picture, Program

WHITE, BLACK, RED, GREEN, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 128, 0), (0, 0, 255)

PROGRAMS = [
    Program(
        "bars saved into memory",
        """
import base64, io
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(6, 4), dpi=100)
ax.bar(["a", "b"], [1, 3], color=["red", "blue"], width=1)
ax.set_title("Umsatz – 2025 (€)")
ax.set_ylabel("total")
buffer = io.BytesIO()
fig.savefig(buffer, format="png")
plt.close(fig)
result = base64.b64encode(buffer.getvalue()).decode()
""",
        {"result": [Picture(600, 400, {WHITE: 0.4, RED: 0.08, BLUE: 0.25})]},
    ),
    Program(
        "a drawing saved into the working folder, without a backend being named",
        """
import base64
import matplotlib.pyplot as plt
plt.figure(figsize=(4, 4))
plt.pie([50, 25, 25], colors=["green", "red", "blue"], startangle=90, radius=1.2)
plt.savefig("pie.png", dpi=50)
plt.show()
with open("pie.png", "rb") as file:
    result = base64.b64encode(file.read()).decode()
""",
        {"result": [Picture(200, 200, {WHITE: 0.5, GREEN: 0.2, RED: 0.1, BLUE: 0.1})]},
    ),
    Program(
        "a frame draws itself",
        """
import base64, io
ax = df.groupby("region")[["units"]].sum().plot(kind="barh", color="green", figsize=(5, 3), legend=False)
buffer = io.BytesIO()
ax.figure.savefig(buffer, dpi=100)
result = base64.b64encode(buffer.getvalue()).decode()
""",
        {"result": [Picture(500, 300, {WHITE: 0.5, GREEN: 0.15})]},
    ),
    Program(
        "panels of lines, dates, a histogram, a heat map and mathematics",
        r"""
import base64, os, tempfile
import matplotlib.dates as mdates
import matplotlib.pyplot as plt
plt.style.use("ggplot")
fig, axes = plt.subplots(2, 2, figsize=(8, 6), constrained_layout=True)
days = pd.date_range("2025-01-01", periods=60)
axes[0, 0].plot(days, np.arange(60), label="up")
axes[0, 0].xaxis.set_major_formatter(mdates.DateFormatter("%b"))
axes[0, 0].legend()
axes[0, 1].hist(np.random.normal(size=1000), bins=30)
axes[1, 0].imshow(np.zeros((5, 5)), cmap="gray", vmin=0, vmax=1)
axes[1, 1].set_title(r"$\frac{\alpha^2}{\sqrt{x}}$")
axes[1, 1].set_facecolor("blue")
path = os.path.join(tempfile.gettempdir(), "panels.png")
fig.savefig(path, dpi=50)
fig.savefig(path.replace(".png", ".svg"))
fig.savefig(path.replace(".png", ".pdf"))
assert os.path.getsize(path.replace(".png", ".pdf")) > 5_000
result = base64.b64encode(open(path, "rb").read()).decode()
""",
        {"result": [Picture(400, 300, {WHITE: 0.2, BLUE: 0.15, BLACK: 0.1})]},
    ),
    Program(
        "a picture made and measured with Pillow",
        """
import base64, io
from PIL import Image, ImageDraw, ImageFont
image = Image.new("RGB", (100, 50), "white")
draw = ImageDraw.Draw(image)
draw.rectangle([0, 0, 49, 49], fill=(255, 0, 0))
draw.text((60, 20), "abc", fill="black", font=ImageFont.load_default())
buffer = io.BytesIO()
image.save(buffer, "PNG")
result = base64.b64encode(buffer.getvalue()).decode()
""",
        {"result": [Picture(100, 50, {RED: 0.5, WHITE: 0.4})]},
    ),
]
